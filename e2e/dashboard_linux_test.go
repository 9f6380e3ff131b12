//go:build linux && e2e

package e2e

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

const dashboardFile = "deploy/grafana.json"

type dashboard struct {
	UID           string
	SchemaVersion int
	Templating    struct {
		List []struct {
			Name, Type, Query, AllValue string
			Datasource                  datasourceRef
		}
	}
	Annotations struct {
		List []struct {
			Name, Expr, TextFormat string
			Datasource             datasourceRef
		}
	}
	Panels []dashboardPanel
}

type datasourceRef struct{ Type, UID string }

type dashboardPanel struct {
	ID          int
	Type, Title string
	Datasource  datasourceRef
	GridPos     struct{ X, Y, W, H int }
	Targets     []struct{ RefID, Expr, LegendFormat string }
	FieldConfig struct{ Defaults struct{ Unit string } }
	Options     map[string]any
}

// dashboardQuery is an expression of the dashboard with the format that names its series.
type dashboardQuery struct{ place, expr, legend string }

var (
	dashboardVariable = regexp.MustCompile(`\$\{?(\w+)\}?`)
	legendLabel       = regexp.MustCompile(`\{\{(\w+)\}\}`)
)

func readDashboard(t testing.TB) *dashboard {
	t.Helper()
	d := new(dashboard)
	if err := json.Unmarshal([]byte(testkit.ReadFile(t, dashboardFile)), d); err != nil {
		t.Fatal(err)
	}
	return d
}

// queries lists what the panels and the annotations ask Prometheus for.
func (d *dashboard) queries() []dashboardQuery {
	var all []dashboardQuery
	for _, p := range d.Panels {
		for _, q := range p.Targets {
			all = append(all, dashboardQuery{p.Title + " " + q.RefID, q.Expr, q.LegendFormat})
		}
	}
	for _, a := range d.Annotations.List {
		all = append(all, dashboardQuery{a.Name, a.Expr, a.TextFormat})
	}
	return all
}

// dashboardOptions lists the options that Grafana's schema requires of a panel of each
// type that the dashboard has.
var dashboardOptions = map[string][]string{
	"stat": {
		"reduceOptions.calcs", "colorMode", "graphMode", "justifyMode", "textMode", "wideLayout",
		"showPercentChange", "percentChangeColorMode", "orientation",
	},
	"timeseries": {
		"legend.displayMode", "legend.placement", "legend.showLegend", "legend.calcs", "tooltip.mode", "tooltip.sort",
	},
}

// dashboardUnits lists the identifiers of Grafana's units that the dashboard uses.
// Grafana shows any other word as it is, behind the number.
var dashboardUnits = []string{"Bps", "Hs", "bytes", "ops", "percentunit", "reqps", "s", "short"}

// TestDashboardForm checks the dashboard for mistakes that Grafana does not report: it
// shows an empty panel instead, or one panel in the place of another.
func TestDashboardForm(t *testing.T) {
	t.Parallel()
	d := readDashboard(t)
	if !regexp.MustCompile(`^[a-zA-Z0-9_-]{1,40}$`).MatchString(d.UID) {
		t.Errorf("%q cannot be the UID of a dashboard", d.UID)
	}
	if link := ":3000/d/" + d.UID + "?"; !strings.Contains(testkit.ReadFile(t, "docs/install.md"), link) {
		t.Errorf("docs/install.md does not link to %s", link)
	}
	if d.SchemaVersion < 37 {
		// Grafana migrates older panels, and replaces some of these options.
		t.Errorf("schema version %d is older than the options of the panels", d.SchemaVersion)
	}

	variables := []string{"datasource"}
	source := datasourceRef{"prometheus", "${datasource}"}
	if v := d.Templating.List[0]; v.Name != "datasource" || v.Type != "datasource" || v.Query != "prometheus" {
		t.Errorf("the first variable is %+v, not the data source that everything else refers to", v)
	}
	for _, v := range d.Templating.List[1:] {
		if v.Datasource != source {
			t.Errorf("variable %s has data source %+v", v.Name, v.Datasource)
		}
		variables = append(variables, v.Name)
	}
	for _, a := range d.Annotations.List {
		if a.Datasource != source {
			t.Errorf("annotation %s has data source %+v", a.Name, a.Datasource)
		}
	}
	for _, q := range d.queries() {
		for _, name := range dashboardVariable.FindAllStringSubmatch(q.expr, -1) {
			if !slices.Contains(variables, name[1]) {
				t.Errorf("%s: there is no variable %s", q.place, name[1])
			}
		}
	}
	if len(d.Panels) < 30 {
		t.Errorf("only %d panels", len(d.Panels))
	}
	ids := make(map[int]string)
	cells := make(map[[2]int]string)
	for _, p := range d.Panels {
		p.check(t, source)
		if other, ok := ids[p.ID]; ok || p.ID <= 0 {
			t.Errorf("%q has ID %d, which is not positive or also that of %q", p.Title, p.ID, other)
		}
		ids[p.ID] = p.Title
		g := p.GridPos
		if g.X < 0 || g.W <= 0 || g.X+g.W > 24 || g.Y < 0 || g.H <= 0 {
			t.Fatalf("%q leaves the grid: %+v", p.Title, g)
		}
		for x := range g.W {
			for y := range g.H {
				cell := [2]int{g.X + x, g.Y + y}
				if other, ok := cells[cell]; ok {
					t.Fatalf("%q covers %q", p.Title, other)
				}
				cells[cell] = p.Title
			}
		}
	}
}

// check checks what does not depend on other panels.
func (p dashboardPanel) check(t *testing.T, source datasourceRef) {
	t.Helper()
	if p.Datasource != source {
		t.Errorf("%q has data source %+v", p.Title, p.Datasource)
	}
	if unit := p.FieldConfig.Defaults.Unit; !slices.Contains(dashboardUnits, unit) {
		t.Errorf("%q has unit %q", p.Title, unit)
	}
	required, ok := dashboardOptions[p.Type]
	if !ok {
		t.Errorf("%q is of the unknown type %q", p.Title, p.Type)
	}
	for _, name := range required {
		var value any = p.Options
		for key := range strings.SplitSeq(name, ".") {
			options, _ := value.(map[string]any)
			value = options[key]
		}
		if value == nil {
			t.Errorf("%q lacks the option %s", p.Title, name)
		}
	}
	if len(p.Targets) == 0 {
		t.Errorf("%q asks for nothing", p.Title)
	}
	var refs []string
	for _, q := range p.Targets {
		if q.RefID == "" || slices.Contains(refs, q.RefID) {
			t.Errorf("%q: %q does not tell its queries apart", p.Title, q.RefID)
		}
		refs = append(refs, q.RefID)
	}
}
