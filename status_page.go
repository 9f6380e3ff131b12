package main

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"net/http"
	"strings"
	"sync"
)

// The status page is one document. This file inserts its style and its scripts, so
// that browsers load nothing else and the page's policy can name both by their hashes.
var (
	//go:embed status.html
	pageMarkup string
	//go:embed status.css
	pageStyle string
	//go:embed status_elements.js
	pageElements string
	//go:embed status_accounts.js
	pageAccounts string
	//go:embed status_miners.js
	pageMiners string
	//go:embed status_charts.js
	pageCharts string
	// pageScript comes last, because it calls the functions of the others when it is
	// loaded.
	//
	//go:embed status.js
	pageScript string
)

// statusPage returns the page that browsers get.
var statusPage = sync.OnceValue(func() string {
	script := "\"use strict\";\n" + pageElements + pageMiners + pageAccounts + pageCharts + pageScript
	return strings.NewReplacer(
		"<style></style>", "<style>\n"+pageStyle+"</style>",
		"<script></script>", "<script>\n"+script+"</script>",
	).Replace(pageMarkup)
})

// pagePolicy returns the page's Content-Security-Policy. It allows the page's own
// script and style, by their hashes, and requests to its own origin.
var pagePolicy = sync.OnceValue(func() string {
	return "default-src 'none'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; " +
		"frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'" +
		"; style-src " + elementHash(statusPage(), "style") + "; script-src " + elementHash(statusPage(), "script")
})

// elementHash returns the hash of the page's only element of that name, in the form
// that a Content-Security-Policy uses.
func elementHash(page, name string) string {
	_, rest, _ := strings.Cut(page, "<"+name+">")
	text, _, _ := strings.Cut(rest, "</"+name+">")
	sum := sha256.Sum256([]byte(text))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

func servePage(w http.ResponseWriter, _ *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", pagePolicy())
	_, _ = w.Write([]byte(statusPage())) // it is no error if the client has gone
}
