package main

import (
	"crypto/tls"
	"strings"
	"time"
)

// This file has what the page and the metrics show about TLS.

// tlsVersion is a version of TLS as connections are counted by it.
type tlsVersion uint8

const (
	tlsNone tlsVersion = iota
	tls12
	tls13
	tlsVersions
)

var tlsVersionNames = [tlsVersions]string{"none", "1.2", "1.3"}

func (v tlsVersion) String() string { return tlsVersionNames[v] }

func tlsVersionOf(version uint16) tlsVersion {
	switch version {
	case tls.VersionTLS12:
		return tls12
	case tls.VersionTLS13:
		return tls13
	}
	return tlsNone
}

// tlsVersions returns the versions in use with the miner and with the pool. It must be
// called on the session's loop or while the loop is stopped.
func (s *Session) tlsVersions() (miner, pool tlsVersion) {
	miner = tlsVersionOf(s.loop.tlsVersion(s.miner))
	if s.link.open() {
		pool = tlsVersionOf(s.loop.tlsVersion(s.link.socket))
	}
	return miner, pool
}

// tlsSurvey counts sessions by the version of TLS with the miner, and those that have a
// pool also by the version with the pool.
type tlsSurvey struct{ miners, pools [tlsVersions]int }

func (t *tlsSurvey) add(s *Session) {
	miner, pool := s.tlsVersions()
	t.miners[miner]++
	if s.link.open() {
		t.pools[pool]++
	}
}

func (t *tlsSurvey) addAll(other *tlsSurvey) {
	for v := range tlsVersions {
		t.miners[v] += other.miners[v]
		t.pools[v] += other.pools[v]
	}
}

func tlsByVersion(counts [tlsVersions]int) map[string]int {
	byName := make(map[string]int, tlsVersions)
	for v := range tlsVersions {
		byName[v.String()] = counts[v]
	}
	return byName
}

// usesTLS reports whether the configuration has TLS for miners or for a pool, or tunnel
// processes are running, perhaps from before an upgrade.
func (m *sessionManager) usesTLS() bool {
	if m.config.TLSCertFile != "" || len(m.tunnels.processes()) > 0 {
		return true
	}
	for _, p := range m.pools {
		for _, a := range p.addresses {
			if a.tls != nil {
				return true
			}
		}
	}
	return false
}

// minersCertificate returns until when the certificate that miners get is valid (zero
// if there is none), its names, and why the present files are not used.
func (m *sessionManager) minersCertificate() (until time.Time, names []string, problem string) {
	pair := m.tlsFiles.certificate.Load()
	if c, known := m.tunnels.certificate(); known {
		pair = c.Pair
		if c.Err != nil {
			problem = c.Err.Error()
		}
	}
	if pair == nil {
		return until, nil, problem
	}
	return pair.NotAfter, pair.Names, problem
}

// reasonLabel returns the form of a tunnel.Reason in JSON and metrics.
func reasonLabel(reason string) string { return strings.ReplaceAll(strings.ToLower(reason), " ", "_") }

// tlsReply is the part of /api/status about TLS.
type tlsReply struct {
	Miners map[string]int `json:"miners"` // by version
	Pools  map[string]int `json:"pools"`

	MinerHandshakes handshakeReply `json:"miner_handshakes"`
	PoolHandshakes  handshakeReply `json:"pool_handshakes"`

	Certificate *certificateReply `json:"certificate,omitempty"`
	Processes   []tunnelReply     `json:"processes"`
}

// handshakeReply counts handshakes since the start or upgrade.
type handshakeReply struct {
	Done   int64            `json:"done"`
	Failed map[string]int64 `json:"failed"` // by reason; reasons with a count of zero are absent
}

// certificateReply is the certificate that miners get.
type certificateReply struct {
	Until   int64    `json:"until"` // 0 if no certificate is in use
	Names   []string `json:"names"`
	Problem string   `json:"problem,omitempty"` // why the present files are not used
}

// tunnelReply is a process that holds TLS connections.
type tunnelReply struct {
	PID         int    `json:"pid"`
	Current     bool   `json:"current"` // whether it gets new connections
	Connections int    `json:"connections"`
	Resident    uint64 `json:"resident_bytes"` // 0 if not reported yet
	Private     uint64 `json:"private_bytes"`
}

func (m *sessionManager) tlsReply(v *survey) *tlsReply {
	if !m.usesTLS() {
		return nil
	}
	counts := m.tunnels.counts()
	reply := &tlsReply{
		Miners: tlsByVersion(v.tls.miners), Pools: tlsByVersion(v.tls.pools),
		MinerHandshakes: handshakeReplyOf(counts.Miners), PoolHandshakes: handshakeReplyOf(counts.Pools),
		Processes: []tunnelReply{},
	}
	if m.config.TLSCertFile != "" {
		until, names, problem := m.minersCertificate()
		reply.Certificate = &certificateReply{Names: names, Problem: problem}
		if !until.IsZero() {
			reply.Certificate.Until = until.Unix()
		}
	}
	for _, p := range m.tunnels.processes() {
		reply.Processes = append(reply.Processes, tunnelReply{
			PID: p.PID, Current: p.Current, Connections: p.Connections, Resident: p.Report.Resident, Private: p.Report.Private,
		})
	}
	return reply
}

func handshakeReplyOf(t handshakeTotals) handshakeReply {
	r := handshakeReply{Done: t.Done, Failed: make(map[string]int64)}
	for reason, n := range t.Failed {
		if n > 0 {
			r.Failed[reasonLabel(reason)] = n
		}
	}
	return r
}
