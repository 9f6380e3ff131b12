package main

import (
	"fmt"
	"html"
	"math"
	"slices"
	"strings"
)

// The chart has a panel for each of these figures. It shows the cost against the number
// of sessions, with a whisker from the smallest to the largest value of all rounds.
var charted = []string{"cpu_share", "cpu_job", "mem_idle", "cpu_connect", "move_last", "upgrade_pause"}

var chartedTargets = []string{targetSwitcher, targetHAProxy, targetNginx, targetFloor}

var colours = map[string]string{
	targetSwitcher: "#1f5fbf", targetHAProxy: "#d9730d", targetNginx: "#2f8f4e", targetFloor: "#777777",
}

const (
	panelWidth, panelHeight = 330, 230
	plotLeft, plotTop       = 46, 34 // inside a panel
	plotWidth, plotHeight   = 260, 150
	chartTop                = 64
)

// chart returns the chart as SVG.
func chart(r *results) string {
	var b strings.Builder
	width, height := 3*panelWidth+20, chartTop+2*panelHeight+10
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" font-family="sans-serif" font-size="11">`+"\n", width, height, width, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="#ffffff"/>`+"\n", width, height)
	fmt.Fprintf(&b, `<text x="20" y="24" font-size="15" fill="#222222">Cost against sessions</text>`+"\n")
	title := fmt.Sprintf("%s, %d cores, Linux %s; medians of %d rounds, whiskers from least to most", r.Date.Format("2006-01-02"), r.Machine.Cores, r.Machine.Kernel, r.Options.Rounds)
	fmt.Fprintf(&b, `<text x="20" y="42" fill="#555555">%s</text>`+"\n", html.EscapeString(title))
	for i, target := range chartedTargets {
		x := width - 420 + i*100
		fmt.Fprintf(&b, `<line x1="%d" y1="20" x2="%d" y2="20" stroke="%s" stroke-width="2"/>`, x, x+22, colours[target])
		fmt.Fprintf(&b, `<text x="%d" y="24" fill="#222222">%s</text>`+"\n", x+27, targetNames[target])
	}
	for i, figure := range charted {
		fmt.Fprintf(&b, `<g transform="translate(%d %d)">`+"\n", 10+i%3*panelWidth, chartTop+i/3*panelHeight)
		panel(&b, r, figure)
		b.WriteString("</g>\n")
	}
	b.WriteString("</svg>\n")
	return b.String()
}

func panel(b *strings.Builder, r *results, figure string) {
	f := figureOf(figure)
	sizes := r.sizes()
	var top float64
	for _, size := range sizes {
		for _, target := range chartedTargets {
			if m, ok := r.medianOf(size, target, figure); ok {
				top = max(top, m.Most)
			}
		}
	}
	fmt.Fprintf(b, `<text x="%d" y="18" font-size="12" fill="#222222">%s, %s</text>`+"\n", plotLeft, html.EscapeString(f.Name), f.Unit)
	if top == 0 {
		fmt.Fprintf(b, `<text x="%d" y="%d" fill="#777777">not measured</text>`+"\n", plotLeft, plotTop+20)
		return
	}
	step := roundStep(top / 4)
	top = math.Ceil(top/step) * step
	right := float64(slices.Max(sizes))
	x := func(size int) float64 { return plotLeft + float64(size)/right*plotWidth }
	y := func(v float64) float64 { return plotTop + plotHeight - max(0, v)/top*plotHeight }
	for v := 0.0; v <= top+step/2; v += step {
		fmt.Fprintf(b, `<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="#e2e2e2"/>`, plotLeft, y(v), plotLeft+plotWidth, y(v))
		fmt.Fprintf(b, `<text x="%d" y="%.1f" text-anchor="end" fill="#555555">%.4g</text>`+"\n", plotLeft-5, y(v)+4, v)
	}
	for _, size := range sizes {
		fmt.Fprintf(b, `<text x="%.1f" y="%d" text-anchor="middle" fill="#555555">%d</text>`+"\n", x(size), plotTop+plotHeight+15, size)
	}
	// The switcher is drawn last, so it is on top of the others.
	for _, target := range slices.Backward(chartedTargets) {
		var points []string
		for _, size := range sizes {
			m, ok := r.medianOf(size, target, figure)
			if !ok {
				continue
			}
			points = append(points, fmt.Sprintf("%.1f,%.1f", x(size), y(m.Median)))
			fmt.Fprintf(b, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s"/>`, x(size), y(m.Least), x(size), y(m.Most), colours[target])
			fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>`+"\n", x(size), y(m.Median), colours[target])
		}
		if len(points) > 1 {
			fmt.Fprintf(b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>`+"\n", strings.Join(points, " "), colours[target])
		}
	}
}

// roundStep returns the smallest number of the form 1, 2 or 5 times a power of ten that
// is not less than v.
func roundStep(v float64) float64 {
	unit := math.Pow(10, math.Floor(math.Log10(v)))
	for _, n := range []float64{1, 2, 5} {
		if v <= n*unit {
			return n * unit
		}
	}
	return 10 * unit
}
