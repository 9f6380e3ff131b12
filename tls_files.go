package main

import (
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/golang/glog"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/regularfile"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/tunnel"
)

// tlsFilesEvery is how often files are read again.
const tlsFilesEvery = 20 * time.Second

// tlsFiles reads renewed files of TLSCAFile, and the certificate for miners, because the
// page shows it also while no tunnel process has reported it. If a file cannot be read,
// what was read before stays in use. The private key is never read here.
type tlsFiles struct {
	certificate atomic.Pointer[tunnel.Pair]
	stop        chan struct{} // nil if follow does not run
}

// start begins to follow the files that c names, if there are any.
func (f *tlsFiles) start(c *Config, pools map[string]*pool, mon *monitor) {
	trusts := needsTrust(pools)
	if c.TLSCertFile == "" && !trusts {
		return
	}
	f.stop = make(chan struct{})
	f.readCertificate(c)
	go f.follow(c, pools, trusts, mon)
}

func (f *tlsFiles) close() {
	if f.stop != nil {
		close(f.stop)
	}
}

func (f *tlsFiles) follow(c *Config, pools map[string]*pool, trusts bool, mon *monitor) {
	logged := "" // the error that was logged last
	for {
		select {
		case <-f.stop:
			return
		case <-time.After(tlsFilesEvery):
		}
		f.readCertificate(c)
		if !trusts {
			continue
		}
		logged = f.readTrusts(pools, logged, mon)
	}
}

// readTrusts reads the files of TLSCAFile again and returns what is wrong with them.
// logged is what was wrong the last time.
func (f *tlsFiles) readTrusts(pools map[string]*pool, logged string, mon *monitor) (problem string) {
	if err := loadTrusts(pools); err != nil {
		problem = err.Error()
	}
	switch {
	case problem == logged:
	case problem != "":
		glog.Errorf("%s; what was read before stays in use", problem)
		mon.recordReload("CA file refused", problem)
	default:
		glog.Info("TLSCAFile: valid again")
		mon.recordReload("CA file taken", "")
	}
	return problem
}

func (f *tlsFiles) readCertificate(c *Config) {
	if c.TLSCertFile == "" {
		return
	}
	pair, err := regularfile.InTime(regularfile.Wait, func() (*tunnel.Pair, error) { return tunnel.ReadCertificate(c.TLSCertFile) })
	if err == nil {
		f.certificate.Store(pair)
	}
}

func needsTrust(pools map[string]*pool) bool {
	for _, p := range pools {
		if slices.ContainsFunc(p.addresses, func(a *poolAddress) bool { return a.tls.is().caFile != "" }) {
			return true
		}
	}
	return false
}

// logCertificateInUse logs the names of miners' certificate and when it expires.
func logCertificateInUse(pair *tunnel.Pair) {
	glog.Infof("TLS certificate in use %s", certificateText(pair))
}

func certificateText(pair *tunnel.Pair) string {
	return "names=" + strings.Join(pair.Names, ",") + " until=" + pair.NotAfter.UTC().Format(time.DateTime)
}
