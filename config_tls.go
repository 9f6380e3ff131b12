package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/regularfile"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/strictjson"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/tunnel"
)

// Allowed values of the keys for TLS, as messages describe them.
const (
	wantCertFile    = `a PEM file with the certificate and its chain, such as "/etc/stratumSwitcher/tls/fullchain.pem"`
	wantKeyFile     = `a PEM file with the certificate's private key, such as "/etc/stratumSwitcher/tls/privkey.pem"`
	wantCAFile      = `a PEM file with the certificates of authorities, such as "/etc/stratumSwitcher/tls/pool-ca.pem"`
	wantServerName  = `a host name or an IP address, such as "pool.example.com"`
	wantFingerprint = "the SHA-256 of the pool's certificate, 64 hexadecimal digits with or without colons; several are separated by commas"
)

// certificateWarnDays is how many days before a certificate expires the warnings begin.
const certificateWarnDays = 14

// maxFingerprints is how many certificates may be pinned for a pool. An address and each
// backup may need two, the present one and the next.
const maxFingerprints = 8

// tlsProblem reports a TLS key as a mistake on systems where TLS is not supported.
func tlsProblem(key, value string, p *configProblems) (unsupported bool) {
	if !tlsSupported {
		p.add(key, "is "+value+", must be left out: TLS needs Linux")
	}
	return !tlsSupported
}

func (c *Config) checkTLSCertFile(key string, p *configProblems) {
	switch {
	case c.TLSCertFile != "" && tlsProblem(key, strconv.Quote(strictjson.Shorten(c.TLSCertFile)), p):
	case c.TLSCertFile == "" && c.TLSKeyFile != "" && tlsSupported:
		p.add(key, fmt.Sprintf("is missing beside TLSKeyFile %q, must be %s", strictjson.Shorten(c.TLSKeyFile), wantCertFile))
	}
}

func (c *Config) checkTLSKeyFile(key string, p *configProblems) {
	switch {
	case c.TLSKeyFile != "" && tlsProblem(key, strconv.Quote(strictjson.Shorten(c.TLSKeyFile)), p):
	case c.TLSKeyFile == "" && c.TLSCertFile != "" && tlsSupported:
		p.add(key, fmt.Sprintf("is missing beside TLSCertFile %q, must be %s", strictjson.Shorten(c.TLSCertFile), wantKeyFile))
	}
}

func (c *Config) checkTLSRequired(key string, p *configProblems) {
	switch {
	case c.TLSRequired && tlsProblem(key, "true", p):
	case c.TLSRequired && c.TLSCertFile == "" && c.TLSKeyFile == "":
		p.add(key, "is true, must be false without TLSCertFile and TLSKeyFile: no miner could connect")
	}
}

// uselessForTLS reports a TLS key as a mistake if the pool has no address with TLS.
func (s *StratumServerInfo) uselessForTLS(key, value string, p *configProblems) bool {
	useless := !slices.ContainsFunc(s.urls(), isTLS)
	if useless {
		p.add(key, fmt.Sprintf("is %s, must be left out: neither URL nor BackupURLs has an address with %s or %s", value, tlsScheme, tlsAlias))
	}
	return useless
}

func (s *StratumServerInfo) checkTLSServerName(key string, p *configProblems) {
	switch {
	case s.TLSServerName == "" || s.uselessForTLS(key, strconv.Quote(strictjson.Shorten(s.TLSServerName)), p):
	case !isHost(s.TLSServerName):
		p.value(key, s.TLSServerName, wantServerName)
	}
}

func (s *StratumServerInfo) checkTLSCAFile(key string, p *configProblems) {
	value := strconv.Quote(strictjson.Shorten(s.TLSCAFile))
	switch {
	case s.TLSCAFile == "" || s.uselessForTLS(key, value, p):
	case s.TLSFingerprint != "":
		p.add(key, "is "+value+" beside TLSFingerprint, must be left out: the fingerprint alone decides")
	case !s.verifies():
		p.add(key, "is "+value+" beside TLSVerify false, must be left out: nothing is checked")
	}
}

func (s *StratumServerInfo) checkTLSFingerprint(key string, p *configProblems) {
	value := strconv.Quote(strictjson.Shorten(s.TLSFingerprint))
	if s.TLSFingerprint == "" || s.uselessForTLS(key, value, p) {
		return
	}
	if _, err := parseFingerprints(s.TLSFingerprint); err != nil {
		p.add(key, fmt.Sprintf("is %s (%v), must be %s", value, err, wantFingerprint))
	}
}

func (s *StratumServerInfo) checkTLSVerify(key string, p *configProblems) {
	switch {
	case s.TLSVerify == nil || s.uselessForTLS(key, strconv.FormatBool(*s.TLSVerify), p):
	case !s.verifies() && s.TLSFingerprint != "":
		p.add(key, "is false beside TLSFingerprint, must be left out: the fingerprint alone decides")
	}
}

// verifyValue is the value of TLSVerify.
var verifyValue = keyValue[StratumServerInfo]{
	setDefault: func(s *StratumServerInfo) { s.TLSVerify = nil },
	decode: func(s *StratumServerInfo, key string, v *strictjson.Node, p *configProblems) {
		s.TLSVerify = new(bool)
		verify := boolValue(func(s *StratumServerInfo) *bool { return s.TLSVerify }, true)
		verify.decode(s, key, v, p)
	},
	want: "true or false",
}

// verifies reports whether certificates of the pool are checked.
func (s *StratumServerInfo) verifies() bool { return s.TLSVerify == nil || *s.TLSVerify }

// urls returns the pool's addresses in order.
func (s *StratumServerInfo) urls() []string { return append([]string{s.URL}, s.BackupURLs...) }

// urlKey returns the key of one of urls, below the pool's key.
func urlKey(key string, i int) string {
	if i == 0 {
		return key + ".URL"
	}
	return fmt.Sprintf("%s.BackupURLs[%d]", key, i-1)
}

// parseFingerprints reads the value of TLSFingerprint.
func parseFingerprints(text string) ([]tunnel.Fingerprint, error) {
	if text == "" {
		return nil, nil
	}
	list := strings.Split(text, ",")
	if len(list) > maxFingerprints {
		return nil, fmt.Errorf("%d fingerprints, of at most %d", len(list), maxFingerprints)
	}
	pins := make([]tunnel.Fingerprint, 0, len(list))
	for _, one := range list {
		one = strings.TrimSpace(one)
		pin, err := tunnel.ParseFingerprint(one)
		if err != nil {
			digits := len(strings.ReplaceAll(one, ":", ""))
			if digits == 2*len(pin) {
				return nil, fmt.Errorf("%s has other characters", strconv.Quote(strictjson.Shorten(one)))
			}
			return nil, fmt.Errorf("%d digits", digits)
		}
		pins = append(pins, pin)
	}
	return pins, nil
}

// checkTLSFiles reads the files that TLS needs and stores the authorities in the pools.
// checkPair checks those of TLSCertFile and TLSKeyFile.
func checkTLSFiles(c *Config, pools map[string]*pool, checkPair func() (*tunnel.Pair, error)) (warnings []string, err error) {
	var pair *tunnel.Pair
	err = loadTrusts(pools)
	if c.TLSCertFile != "" {
		var pairErr error
		pair, pairErr = regularfile.InTime(regularfile.Wait, checkPair)
		if errors.Is(pairErr, regularfile.ErrTooSlow) {
			pairErr = fmt.Errorf("TLSCertFile is %q and TLSKeyFile %q: %w", c.TLSCertFile, c.TLSKeyFile, pairErr)
		}
		err = errors.Join(pairErr, err)
	}
	if err != nil {
		return nil, err
	}
	if pair != nil {
		warnings = append(warnings, certificateWarnings(c, pair)...)
	}
	for _, coin := range slices.Sorted(maps.Keys(c.StratumServerMap)) {
		if pool := c.StratumServerMap[coin]; !pool.verifies() {
			warnings = append(warnings, joinKey("StratumServerMap", coin)+".TLSVerify is false: whoever is between here and the pool can read and change everything; with TLSFingerprint they could not")
		}
	}
	return warnings, nil
}

// checkTLSPair checks the files of TLSCertFile and TLSKeyFile and does not keep them.
func (c *Config) checkTLSPair() (*tunnel.Pair, error) {
	return tunnel.CheckPair(c.TLSCertFile, c.TLSKeyFile)
}

// certificateWarnings warns of a certificate that has expired or soon will.
func certificateWarnings(c *Config, pair *tunnel.Pair) []string {
	if warning := pair.Warning(time.Now(), certificateWarnDays); warning != "" {
		return []string{fmt.Sprintf("TLSCertFile %s: %s", c.TLSCertFile, warning)}
	}
	return nil
}
