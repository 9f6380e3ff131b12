package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// markdown returns the report: the machine, the aims, and a table for each size.
func (r *results) markdown() string {
	var b strings.Builder
	m := r.Machine
	fmt.Fprintf(&b, "# Bench of %s\n\n", r.Date.Format(time.DateTime))
	fmt.Fprintf(&b, "%d cores (%s), Linux %s, %d MB, %d descriptors per process; %s. Load average before the first round: %s.\n",
		m.Cores, m.CPU, m.Kernel, m.MemoryMB, m.Descriptors, strings.Join(m.Programs, ", "), m.Load)
	o := r.Options
	rounds := "One round."
	if o.Rounds > 1 {
		rounds = fmt.Sprintf("Medians of %d rounds. The spread is in brackets (largest less smallest value, in percent of the median).", o.Rounds)
	}
	fmt.Fprintf(&b, "%s %.0f shares/s for CPU, %.0f shares/s for latency, for %v each;\n"+
		"%d threads or workers. KB are 1,024 bytes. It took %s.\n", rounds, o.Rate, o.LatencyRate, o.Span, o.Threads, r.Took)
	if len(r.Remarks) > 0 {
		b.WriteString("\nNot as planned:\n\n")
		for _, remark := range r.Remarks {
			fmt.Fprintf(&b, "- %s\n", remark)
		}
	}
	if len(r.Aims) > 0 {
		b.WriteString("\n## Aims\n\n| sessions | aim | found | |\n| ---: | --- | ---: | --- |\n")
		for _, a := range r.Aims {
			fmt.Fprintf(&b, "| %d | %s | %s | %s |\n", a.Size, a.Aim, a.Found, verdict(a.Met))
		}
	}
	for _, size := range r.sizes() {
		fmt.Fprintf(&b, "\n## %d sessions\n\n", size)
		if r.has(size, plainTargets) {
			r.table(&b, size)
		}
		if r.has(size, tlsTargets) {
			r.tlsTable(&b, size)
		}
	}
	return b.String()
}

func verdict(met bool) string {
	if met {
		return "met"
	}
	return "**not met**"
}

// table writes the table of the targets without TLS.
func (r *results) table(b *strings.Builder, size int) {
	b.WriteString("| figure |")
	rule := "\n| --- |"
	for _, target := range plainTargets {
		fmt.Fprintf(b, " %s |", targetNames[target])
		rule += " ---: |"
	}
	b.WriteString(" switcher : HAProxy | switcher : bare relay | bare relay : HAProxy |" + rule + " ---: | ---: | ---: |\n")
	for _, f := range figures {
		name, cells, any := r.row(size, f, plainTargets)
		if !any {
			continue
		}
		m, _ := r.medianOf(size, targetSwitcher, f.Key)
		floor, _ := r.medianOf(size, targetFloor, f.Key)
		fmt.Fprintf(b, "| %s |%s %s | %s | %s |\n", name, cells, ratioText(m.OfHAProxy), ratioText(m.OfFloor), ratioText(floor.OfHAProxy))
	}
}

// row returns the name of a figure and its cells for these targets. any is true if at
// least one of them has the figure.
func (r *results) row(size int, f figure, targets []string) (name, cells string, any bool) {
	for _, target := range targets {
		cell := "–"
		if m, ok := r.medianOf(size, target, f.Key); ok {
			any = true
			cell = fmt.Sprintf("%.*f", f.Digits, m.Median)
			if len(r.values(size, target, f.Key)) > 1 {
				cell += fmt.Sprintf(" (%.0f %%)", m.Spread)
			}
		}
		cells += " " + cell + " |"
	}
	name = f.Name
	if f.Unit != "" {
		name += ", " + f.Unit
	}
	return name, cells, any
}

// tlsTable writes the table of the targets whose miners use TLS.
func (r *results) tlsTable(b *strings.Builder, size int) {
	fmt.Fprintf(b, "| figure | %s | %s | switcher : HAProxy |\n| --- | ---: | ---: | ---: |\n", targetNames[targetSwitcherTLS], targetNames[targetHAProxyTLS])
	for _, f := range figures {
		if name, cells, any := r.row(size, f, tlsTargets); any {
			m, _ := r.medianOf(size, targetSwitcherTLS, f.Key)
			fmt.Fprintf(b, "| %s |%s %s |\n", name, cells, ratioText(m.OfHAProxy))
		}
	}
}

// has reports whether one of these targets was measured.
func (r *results) has(size int, targets []string) bool {
	return slices.ContainsFunc(r.Samples, func(s sample) bool { return s.Size == size && slices.Contains(targets, s.Target) })
}

func ratioText(v float64) string {
	if v == 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f", v)
}
