//go:build linux && e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// composeService is the text of a service in deploy/compose.yml.
func composeService(t testing.TB, name string) string {
	t.Helper()
	m := regexp.MustCompile(`(?m)^  ` + name + `:\n((?:    .*\n|\n)+)`).FindStringSubmatch(testkit.ReadFile(t, "deploy/compose.yml"))
	if m == nil {
		t.Fatalf("deploy/compose.yml has no service %s", name)
	}
	return m[1]
}

// composeWords is a list of words of a service, such as its command, as a shell
// reads them.
func composeWords(t testing.TB, service, key string) string {
	t.Helper()
	m := regexp.MustCompile(key + `: (\[.*\])`).FindStringSubmatch(composeService(t, service))
	if m == nil {
		t.Fatalf("deploy/compose.yml: %s has no %s", service, key)
	}
	var words []string
	if err := json.Unmarshal([]byte(m[1]), &words); err != nil {
		t.Fatal(err)
	}
	if words[0] == "CMD" {
		words = words[1:]
	}
	for i, word := range words {
		words[i] = quoteForShell(word)
	}
	return strings.Join(words, " ")
}

func quoteForShell(word string) string { return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'" }

// TestCompose runs the services of deploy/compose.yml with their commands, files
// and health checks in one machine, where the name of each service leads to the
// machine itself. In the place of Grafana, which is not run, it asks Prometheus for
// what Grafana's files ask for.
func TestCompose(t *testing.T) {
	t.Parallel()
	needTools(t, "java", "prometheus", "promtool", "curl")
	const files = "/mnt/shared/source/deploy/compose/"
	script := docStart + `
export PATH=$PATH:/usr/share/zookeeper/bin
for name in zookeeper pool-btc pool-bcc switcher prometheus; do echo "127.0.0.1 $name" >>/etc/hosts; done
cat >/tmp/zoo.cfg <<END
tickTime=2000
dataDir=/tmp/zookeeper
clientPort=2181
admin.enableServer=false
END
ZOOCFGDIR=/tmp zkServer.sh start /tmp/zoo.cfg
for try in $(seq 100); do zkServer.sh status /tmp/zoo.cfg && break; sleep 0.2; done
ln -s ` + files + `coins.txt /coins.txt
` + composeWords(t, "coins", "command") + `
mkdir -p /etc/stratumSwitcher /tmp/work
cp ` + files + `switcher/* /etc/stratumSwitcher/
go build -o /usr/bin/stratumSwitcher .
go build -o /usr/bin/practice ./demo/practice
practice ` + composeWords(t, "pool-btc", "command") + ` >btc.log 2>&1 &
practice ` + composeWords(t, "pool-bcc", "command") + ` >bcc.log 2>&1 &
stratumSwitcher -config=/etc/stratumSwitcher/config.json -logtostderr -v=1 >switcher.log 2>&1 &
await 'listening addr' switcher.log
` + composeWords(t, "switcher", "test") + `
` + composeWords(t, "pool-btc", "test") + `
` + composeWords(t, "pool-bcc", "test") + `
mkdir -p /etc/prometheus
cp ` + files + `prometheus.yml ` + files + `../alerts.yml /etc/prometheus/
prometheus --config.file=/etc/prometheus/prometheus.yml --storage.tsdb.path=/tmp/prometheus >prometheus.log 2>&1 &
practice ` + composeWords(t, "miners", "command") + ` >miners.log 2>&1 &
await '21 miners connected, 14 mine btc, 7 mine bcc' miners.log
` + awaitPrometheus(t, `sum by (coin) (stratum_switcher_sessions{coin="btc",phase="relaying"}) == 14`) + `
zkCli.sh set /stratumSwitcher/btcbcc/alice bcc
await '21 miners connected, 7 mine btc, 14 mine bcc' miners.log
` + composeWords(t, "prometheus", "test") +
		awaitPrometheus(t, `sum(stratum_switcher_sessions{coin="bcc",phase="relaying"}) == 14
			and sum(increase(stratum_switcher_switches_total{coin="bcc"}[5m])) > 0
			and sum(increase(stratum_switcher_switch_duration_seconds_count[5m])) > 0
			and sum(rate(stratum_switcher_shares_accepted_total{coin="bcc"}[5m])) > 0`) +
		askPrometheus(t)
	out, err := playScript(t, idle, script)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Log(out)
	checkPrometheus(t, out)
}

// quietInDemo lists the queries of the dashboard that find nothing while nothing fails,
// before an upgrade, and without TLS.
var quietInDemo = []string{
	"Last upgrade's pause A",
	"Upgrades",
	"Handshakes failed A",
	"Handshakes failed B",
	"Pool links that failed A",
	"Miners by TLS version A",
	"TLS handshakes failed A",
	"Tunnel processes' private memory A",
}

// grafanaAsks lists the queries as Grafana sends them: for all instances, and for the
// one that the variable's query finds in the demonstration.
func grafanaAsks(t testing.TB) []dashboardQuery {
	t.Helper()
	d := readDashboard(t)
	var asks []dashboardQuery
	for _, instance := range []string{d.Templating.List[1].AllValue, "switcher:6060"} {
		for _, q := range d.queries() {
			q.expr = strings.ReplaceAll(q.expr, "$instance", instance)
			asks = append(asks, q)
		}
	}
	return asks
}

// prometheusAPI is the address of Prometheus for Grafana.
func prometheusAPI(t testing.TB) string {
	t.Helper()
	url := regexp.MustCompile(`(?m)^    url: (\S+)$`).FindStringSubmatch(testkit.ReadFile(t, "deploy/compose/grafana/datasources/prometheus.yml"))
	if url == nil {
		t.Fatal("the data source has no url")
	}
	return url[1] + "/api/v1"
}

// awaitPrometheus is a script that waits until Prometheus finds something.
func awaitPrometheus(t testing.TB, expr string) string {
	t.Helper()
	return `
for try in $(seq 300); do
	curl -s ` + prometheusAPI(t) + `/query --data-urlencode ` + quoteForShell("query="+expr) + ` >found.log
	if grep -q '"value"' found.log; then break; fi
	sleep 0.2
done
grep '"value"' found.log
`
}

// askPrometheus is a script that asks Prometheus for all that the dashboard shows. It
// prints each answer after the query's number.
func askPrometheus(t testing.TB) string {
	t.Helper()
	api := prometheusAPI(t)
	var script strings.Builder
	script.WriteString(`
while curl -s ` + api + `/rules | grep '"health":"unknown"'; do sleep 0.2; done
echo "rules $(curl -s ` + api + `/rules)"
echo "instances $(curl -sG ` + api + `/label/instance/values --data-urlencode 'match[]=stratum_switcher_build_info')"
now=$(($(date +%s) + 1)) # not before the latest sample
`)
	for i, q := range grafanaAsks(t) {
		fmt.Fprintf(&script, "echo \"answer %d $(curl -s %s/query_range -d start=$((now-900)) -d end=$now -d step=15 --data-urlencode %s)\"\n",
			i, api, quoteForShell("query="+q.expr))
	}
	return script.String()
}

// checkPrometheus checks the answers that the script of askPrometheus printed.
func checkPrometheus(t *testing.T, out string) {
	t.Helper()
	type answer struct {
		Status, Error string
		Data          struct {
			Result []struct {
				Metric map[string]string
				Values [][2]any // time and value
			}
			Groups []struct {
				Rules []struct{ Name, Health, LastError string }
			}
		}
	}
	read := func(name string, into any) {
		t.Helper()
		m := regexp.MustCompile(`(?m)^` + name + ` (.*)$`).FindStringSubmatch(out)
		if m == nil {
			t.Fatalf("no answer named %s", name)
		}
		if err := json.Unmarshal([]byte(m[1]), into); err != nil {
			t.Fatalf("%s: %v: %s", name, err, m[1])
		}
	}

	var instances struct{ Data []string }
	read("instances", &instances)
	if want := []string{"switcher:6060"}; !slices.Equal(instances.Data, want) {
		t.Errorf("the variable has the instances %q, want %q", instances.Data, want)
	}

	var rules answer
	read("rules", &rules)
	loaded := 0
	for _, group := range rules.Data.Groups {
		for _, rule := range group.Rules {
			loaded++
			if rule.Health != "ok" {
				t.Errorf("alert %s is %s: %s", rule.Name, rule.Health, rule.LastError)
			}
		}
	}
	if want := strings.Count(testkit.ReadFile(t, "deploy/alerts.yml"), "- alert: "); loaded != want {
		t.Errorf("Prometheus has %d rules, want %d", loaded, want)
	}

	for i, q := range grafanaAsks(t) {
		var a answer
		read(fmt.Sprintf("answer %d", i), &a)
		if a.Status != "success" {
			t.Errorf("%s: %s: %s", q.place, a.Error, q.expr)
			continue
		}
		numbers := 0
		for _, series := range a.Data.Result {
			for _, v := range series.Values {
				if v[1] != "NaN" {
					numbers++
				}
			}
		}
		if quiet := slices.Contains(quietInDemo, q.place); quiet != (numbers == 0) {
			t.Errorf("%s finds %d series with %d numbers: %s", q.place, len(a.Data.Result), numbers, q.expr)
		}
		for _, label := range legendLabel.FindAllStringSubmatch(q.legend, -1) {
			for _, series := range a.Data.Result {
				if series.Metric[label[1]] == "" {
					t.Errorf("%s: a series without %s, which the legend shows: %v", q.place, label[1], series.Metric)
				}
			}
		}
	}
}

// TestComposeFiles checks that what deploy/compose.yml mounts exists, and that its
// Grafana finds the dashboard and the data source that the dashboard asks for.
func TestComposeFiles(t *testing.T) {
	mounts := regexp.MustCompile(`(?m)^      - (\./\S+?):(/\S+?):ro$`).FindAllStringSubmatch(testkit.ReadFile(t, "deploy/compose.yml"), -1)
	if len(mounts) != 7 {
		t.Errorf("deploy/compose.yml has %d mounts, want 7", len(mounts))
	}
	target := make(map[string]string)
	for _, m := range mounts {
		from := filepath.Join("deploy", m[1])
		if _, err := os.Stat(from); err != nil {
			t.Error(err)
		}
		target[m[2]] = from
	}
	board := regexp.MustCompile(`path: (\S+)`).FindStringSubmatch(testkit.ReadFile(t, "deploy/compose/grafana/dashboards/stratumSwitcher.yml"))
	if board == nil || target[board[1]+"/stratumSwitcher.json"] != dashboardFile {
		t.Errorf("the folder of dashboards is %q, which is not where ours is mounted", board)
	}
	if home := "HOME_DASHBOARD_PATH: " + board[1] + "/stratumSwitcher.json\n"; !strings.Contains(testkit.ReadFile(t, "deploy/compose.yml"), home) {
		t.Errorf("deploy/compose.yml has no %q", home)
	}
	for _, folder := range []string{"dashboards", "datasources"} {
		if at := "/etc/grafana/provisioning/" + folder; target[at] != "deploy/compose/grafana/"+folder {
			t.Errorf("%s is %q", at, target[at])
		}
	}
	if from, ok := target["/etc/grafana/provisioning"]; ok {
		t.Errorf("%s hides the other folders of the image, which Grafana reads too", from)
	}
	for _, name := range []string{"zookeeper", "pool-btc", "pool-bcc", "switcher", "prometheus", "grafana"} {
		composeWords(t, name, "test") // a health check
	}
	if job := "job_name: stratumSwitcher\n"; !strings.Contains(testkit.ReadFile(t, "deploy/compose/prometheus.yml"), job) {
		t.Errorf("prometheus.yml has no %q", job)
	}
	if !strings.Contains(testkit.ReadFile(t, "deploy/grafana.json"), `"type": "datasource"`) {
		t.Error("the dashboard does not let Grafana choose the data source")
	}
}
