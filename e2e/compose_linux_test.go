//go:build linux && e2e

package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// composeService is the text of a service in deploy/compose.yml.
func composeService(t testing.TB, name string) string {
	t.Helper()
	m := regexp.MustCompile(`(?m)^  ` + name + `:\n((?:    .*\n|\n)+)`).FindStringSubmatch(readText(t, "deploy/compose.yml"))
	if m == nil {
		t.Fatalf("deploy/compose.yml has no service %s", name)
	}
	return m[1]
}

func readText(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
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
		words[i] = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
	}
	return strings.Join(words, " ")
}

// TestCompose runs the services of deploy/compose.yml with their commands, files
// and health checks in one machine, where the name of each service leads to the
// machine itself. Prometheus and Grafana are not run.
func TestCompose(t *testing.T) {
	t.Parallel()
	needTools(t, "java")
	const files = "/mnt/shared/source/deploy/compose/"
	script := docStart + `
export PATH=$PATH:/usr/share/zookeeper/bin
for name in zookeeper pool-btc pool-bcc switcher; do echo "127.0.0.1 $name" >>/etc/hosts; done
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
practice ` + composeWords(t, "miners", "command") + ` >miners.log 2>&1 &
await '21 miners connected, 14 mine btc, 7 mine bcc' miners.log
zkCli.sh set /stratumSwitcher/btcbcc/alice bcc
await '21 miners connected, 7 mine btc, 14 mine bcc' miners.log
curl -s http://switcher:6060/metrics | grep -q '^stratum_switcher_sessions{.*coin="bcc".* 14$'
`
	out, err := playScript(t, idle, script)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Log(out)
}

// TestComposeFiles checks that what deploy/compose.yml mounts exists, and that its
// Grafana finds the dashboard and the data source that the dashboard asks for.
func TestComposeFiles(t *testing.T) {
	mounts := regexp.MustCompile(`(?m)^      - (\./\S+?):(/\S+?):ro$`).FindAllStringSubmatch(readText(t, "deploy/compose.yml"), -1)
	if len(mounts) != 6 {
		t.Errorf("deploy/compose.yml has %d mounts, want 6", len(mounts))
	}
	target := make(map[string]string)
	for _, m := range mounts {
		from := filepath.Join("deploy", m[1])
		if _, err := os.Stat(from); err != nil {
			t.Error(err)
		}
		target[m[2]] = from
	}
	board := regexp.MustCompile(`path: (\S+)`).FindStringSubmatch(readText(t, "deploy/compose/grafana/dashboards/stratumSwitcher.yml"))
	if board == nil || target[board[1]] != "deploy/grafana.json" {
		t.Errorf("the dashboard's path is %q, which is not where it is mounted", board)
	}
	if job := "job_name: stratumSwitcher\n"; !strings.Contains(readText(t, "deploy/compose/prometheus.yml"), job) {
		t.Errorf("prometheus.yml has no %q", job)
	}
	if !strings.Contains(readText(t, "deploy/grafana.json"), `"type": "datasource"`) {
		t.Error("the dashboard does not let Grafana choose the data source")
	}
}
