package main

// Metrics about TLS. They are absent while nothing needs TLS.

var (
	descTLSSessions  = desc("tls_sessions", "Miners' connections by version of TLS: none, 1.2, 1.3.", "version")
	descTLSLinks     = desc("tls_pool_links", "Pool links in use by version of TLS: none, 1.2, 1.3.", "version")
	descTLSDone      = desc("tls_handshakes_total", "Completed TLS handshakes, with miners and with pools.", "side")
	descTLSFailed    = desc("tls_handshake_failures_total", "TLS handshakes that failed, with miners and with pools.", "side", "reason")
	descCertificate  = desc("tls_certificate_expiry_timestamp_seconds", "When the certificate for miners ends, or an intermediate one in its chain that ends earlier, in Unix time; absent without a certificate.")
	descNotRenewed   = desc("tls_certificate_refused", "1 while the present files of TLSCertFile and TLSKeyFile cannot be used.")
	descTunnels      = desc("tunnel_processes", "Processes that hold TLS connections: the current one, which gets new connections, and former ones.", "generation")
	descTunnelConns  = desc("tunnel_connections", "TLS connections that these processes hold.", "generation")
	descTunnelMemory = desc("tunnel_memory_bytes", "Memory of these processes: resident, and the part of it that no other process shares (private).", "generation", "kind")
)

func (c *metricsCollector) collectTLS(gauge, count addMetric) {
	m := c.server.manager
	if !m.usesTLS() {
		return
	}
	if v := c.server.surveyor.get(); !v.at.IsZero() {
		for version := range tlsVersions {
			gauge(descTLSSessions, float64(v.tls.miners[version]), version.String())
			gauge(descTLSLinks, float64(v.tls.pools[version]), version.String())
		}
	}
	counts := m.tunnels.counts()
	for side, totals := range map[string]handshakeTotals{"miners": counts.Miners, "pools": counts.Pools} {
		count(descTLSDone, float64(totals.Done), side)
		for reason, n := range totals.Failed {
			count(descTLSFailed, float64(n), side, reasonLabel(reason))
		}
	}
	if m.config.TLSCertFile != "" {
		until, _, problem := m.minersCertificate()
		if !until.IsZero() {
			gauge(descCertificate, float64(until.Unix()))
		}
		gauge(descNotRenewed, oneIf(problem != ""))
	}
	type generation struct{ processes, connections, resident, private float64 }
	generations := map[string]*generation{"current": {}, "former": {}}
	for _, p := range m.tunnels.processes() {
		g := generations["former"]
		if p.Current {
			g = generations["current"]
		}
		g.processes++
		g.connections += float64(p.Connections)
		g.resident += float64(p.Report.Resident)
		g.private += float64(p.Report.Private)
	}
	for name, g := range generations {
		gauge(descTunnels, g.processes, name)
		gauge(descTunnelConns, g.connections, name)
		gauge(descTunnelMemory, g.resident, name, "resident")
		gauge(descTunnelMemory, g.private, name, "private")
	}
}
