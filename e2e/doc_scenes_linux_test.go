//go:build linux && e2e

package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// docScene is a story in which commands of the pages are typed, in a machine of its
// own with a copy of the source.
type docScene struct {
	name  string
	init  []string // how the machine is started
	steps []docStep
}

// docStep is a step of a scene: a block of a page as it is written, a block that
// runs in another terminal (its output is in terminal.log), or a script of the
// test, which does what the page leaves to its reader or checks a result.
type docStep struct {
	page, block string
	terminal    string
	script      string
}

func typed(page, block string) docStep { return docStep{page: page, block: block} }

func inTerminal(name, page, block string) docStep {
	return docStep{page: page, block: block, terminal: name}
}

func meanwhile(script string) docStep { return docStep{script: script} }

// await waits for a line in a terminal's output.
func await(terminal, pattern string) docStep { return awaitIn(terminal+".log", pattern) }

func awaitIn(file, pattern string) docStep {
	return docStep{script: "await '" + pattern + "' " + file}
}

const (
	btcMiners = "3 miners connected, 3 mine btc, 0 mine bcc"
	bccMiners = "3 miners connected, 0 mine btc, 3 mine bcc"
)

// docStart comes before every scene.
const docStart = `
cd /mnt/shared/source
ip link set lo up
await() {
	for try in $(seq 900); do
		if grep -q "$1" "$2" 2>/dev/null; then return; fi
		sleep 0.1
	done
	echo "not seen in $2: $1"
	tail -n 40 ./*.log
	exit 1
}
`

// operatorsFile is what an operator makes of config.json in an editor.
const operatorsFile = `
cat >/usr/local/bin/editor <<'EDITED'
#!/bin/sh
cat >"$1" <<END
{
    "ServerID": 1,
    "ListenAddr": "127.0.0.1:18080",
    "CoinFile": "/etc/stratumSwitcher/coins.json",
    "EnableHTTPDebug": true,
    "StratumServerMap": {
        "btc": {"URL": "127.0.0.1:3333"},
        "bcc": {"URL": "127.0.0.1:3334"}
    }
}
END
echo '{"alice": "btc"}' >/etc/stratumSwitcher/coins.json
chmod 644 /etc/stratumSwitcher/coins.json
EDITED
chmod 755 /usr/local/bin/editor
`

// tlsMachine prepares what the page on TLS takes for granted: an installed switcher
// whose configuration has the two keys.
const tlsMachine = `
install -m 755 stratumSwitcher /usr/local/bin/
groupadd -r stratumswitcher
mkdir -p /etc/stratumSwitcher
cat >/etc/stratumSwitcher/config.json <<'END'
{
    "ServerID": 1,
    "ListenAddr": "127.0.0.1:18080",
    "CoinFile": "/etc/stratumSwitcher/coins.json",
    "TLSCertFile": "/etc/stratumSwitcher/tls/cert.pem",
    "TLSKeyFile": "/etc/stratumSwitcher/tls/key.pem",
    "StratumServerMap": {"btc": {"URL": "127.0.0.1:3333"}, "bcc": {"URL": "127.0.0.1:3334"}}
}
END
echo '{"alice": "btc"}' >/etc/stratumSwitcher/coins.json
mkdir -p /etc/letsencrypt/renewal-hooks/deploy
`

// tlsRenewal does what certbot does after a renewal, and runs a pool with TLS at
// pool.example.com.
const tlsRenewal = `
mkdir -p /etc/letsencrypt/live/renewed
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 90 -subj /CN=renewed.example.com -addext subjectAltName=DNS:renewed.example.com \
	-keyout /etc/letsencrypt/live/renewed/privkey.pem -out /etc/letsencrypt/live/renewed/fullchain.pem
RENEWED_LINEAGE=/etc/letsencrypt/live/renewed /etc/letsencrypt/renewal-hooks/deploy/stratumSwitcher
echo 127.0.0.2 pool.example.com >>/etc/hosts
openssl s_server -accept 127.0.0.2:3334 -cert /etc/stratumSwitcher/tls/cert.pem -key /etc/stratumSwitcher/tls/key.pem -quiet >pool.log 2>&1 &
sleep 1
`

var (
	idle    = []string{"sleep", "infinity"}
	systemd = []string{"/lib/systemd/systemd", "--system", "--unit=machine.target", "--log-target=console"}
)

var docScenes = []docScene{
	{"QuickStart", idle, []docStep{
		typed("README.md", "make build\n"),
		inTerminal("practice", "README.md", "make practice\n"),
		await("practice", "A simulated bcc pool listens"),
		inTerminal("switcher", "README.md", "./stratumSwitcher -logtostderr"),
		await("practice", btcMiners),
		typed("README.md", `echo '{"alice": "bcc"}'`),
		await("practice", bccMiners),
		await("switcher", `to="bcc" miners=3 .*: done`),
		typed("docs/pools.md", "./stratumSwitcher -check\n"),
		typed("docs/pools.md", "pool=127.0.0.1/3333\n"),
		meanwhile("mount -o remount,bind,rw /proc/sys"), // of this machine's network
		typed("docs/switching.md", "sysctl -w net.ipv4.ip_local_port_range"),
	}},
	{"Contributor", idle, []docStep{
		typed("CONTRIBUTING.md", "make build "),
		typed("CONTRIBUTING.md", "go test -race"),
	}},
	{"Demo", idle, []docStep{
		meanwhile("export DEMO='-pause 1s'"), // nobody reads the tables between two steps
		typed("README.md", "make demo "),
	}},
	{"ZooKeeper", idle, []docStep{
		typed("docs/zookeeper.md", "make build\n"),
		meanwhile(`sed -i 's/"ServerID": 0/"ServerID": 182/' config.json`), // as on the page on configuration
		typed("docs/zookeeper.md", "apt-get install zookeeper"),
		meanwhile("for try in $(seq 100); do /usr/share/zookeeper/bin/zkServer.sh status /tmp/zoo.cfg && break; sleep 0.1; done"), // it starts in the background, and listens before it serves
		typed("docs/zookeeper.md", "export PATH"),
		inTerminal("practice", "README.md", "make practice\n"),
		await("practice", "A simulated bcc pool listens"),
		inTerminal("switcher", "docs/zookeeper.md", "./stratumSwitcher -logtostderr"),
		await("practice", btcMiners),
		typed("docs/zookeeper.md", "zkCli.sh -server 127.0.0.1:2181 set"),
		await("practice", bccMiners),
		await("switcher", `to="bcc" miners=3 .*: done`),
		typed("docs/configuration.md", "zkCli.sh -server 127.0.0.1:2181 create /stratumSwitcher/btcbcc/bob btc\n"),
		typed("docs/configuration.md", "zkCli.sh -server 127.0.0.1:2181 ls /stratumSwitcher/bitcoin_swid\n"),
		typed("docs/configuration.md", "zkCli.sh -server 127.0.0.1:2181 create /stratumSwitcher/bitcoin_case\n"),
		meanwhile("build/practice -account dave -btc 127.0.0.1:3343 -bcc 127.0.0.1:3344 >dave.log 2>&1 &"),
		await("switcher", `registration of account="dave" begins`),
		typed("docs/configuration.md", "zkCli.sh -server 127.0.0.1:2181 get /stratumSwitcher/bitcoin_autoreg/dave\n"),
		await("switcher", `account="dave"`),
		meanwhile("build/practice -account BOB -btc 127.0.0.1:3353 -bcc 127.0.0.1:3354 >bob.log 2>&1 &"),
		await("bob", "3 miners connected"),
		typed("docs/zookeeper.md", "/usr/share/zookeeper/bin/zkServer.sh stop"),
	}},
	{"Package", systemd, []docStep{
		inTerminal("practice", "README.md", "make practice\n"),
		await("practice", "A simulated bcc pool listens"),
		meanwhile(operatorsFile),
		typed("docs/install.md", "make package\n"),
		typed("docs/install.md", "editor /etc/stratumSwitcher/config.json\nstratumSwitcher"),
		typed("docs/install.md", "systemctl enable --now stratumSwitcher\n"),
		await("practice", btcMiners),
		typed("docs/operating.md", "stratumSwitcher -config /etc/stratumSwitcher/config.json -check -pools"),
		typed("docs/install.md", "mkdir -p /etc/systemd/system"),
		typed("docs/install.md", "systemctl reload stratumSwitcher\n"),
		awaitIn("/var/log/stratumSwitcher/stratumSwitcher.INFO", "upgraded version="),
		typed("docs/install.md", "echo 'days=14'"),
		meanwhile("systemctl start supervisor"), // a new package starts it
		typed("docs/install.md", "apt-get install supervisor"),
		meanwhile(`sleep 7; supervisorctl status stratumSwitcher | grep RUNNING`), // startsecs
		typed("docs/install.md", "supervisorctl signal USR2"),
		typed("README.md", "supervisorctl signal USR2"),
		typed("docs/upgrading.md", "supervisorctl signal USR2"),
		typed("docs/upgrading.md", "curl -s -o /dev/null"),
		typed("docs/install.md", "apt-get install ./build/stratumswitcher_"),
		typed("docs/install.md", "apt-get remove"),
		typed("docs/install.md", "apt-get purge"),
	}},
	{"TLS", idle, []docStep{
		typed("README.md", "make build\n"),
		inTerminal("practice", "README.md", "make practice\n"),
		await("practice", "A simulated bcc pool listens"),
		meanwhile(tlsMachine),
		typed("docs/tls.md", "install -d -m 750 -g stratumswitcher"),
		meanwhile("cd /mnt/shared/source"),
		typed("docs/tls.md", "stratumSwitcher -config /etc/stratumSwitcher/config.json -check\n"),
		meanwhile("stratumSwitcher -config /etc/stratumSwitcher/config.json -logtostderr >switcher.log 2>&1 &"),
		await("practice", btcMiners),
		typed("docs/tls.md", "openssl s_client -connect 127.0.0.1:18080"),
		await("switcher", "TLS certificate in use names=switcher.example.com"),
		typed("docs/tls.md", "cat >/etc/letsencrypt/renewal-hooks/deploy/stratumSwitcher"),
		meanwhile(tlsRenewal),
		await("switcher", "TLS certificate in use names=renewed.example.com"),
		typed("docs/tls.md", "openssl s_client -connect pool.example.com:3334"),
	}},
	{"ByHand", systemd, []docStep{
		inTerminal("practice", "README.md", "make practice\n"),
		await("practice", "A simulated bcc pool listens"),
		meanwhile(operatorsFile),
		typed("docs/install.md", "make install\nuseradd"),
		typed("docs/install.md", "systemctl daemon-reload\nsystemctl enable"),
		await("practice", btcMiners),
		typed("docs/install.md", "make install\nsystemctl daemon-reload"),
		awaitIn("/var/log/stratumSwitcher/stratumSwitcher.INFO", "upgraded version="),
		typed("docs/install.md", "systemctl disable --now stratumSwitcher stratumSwitcher-logs.timer"),
		meanwhile(`! find / -xdev -iname '*stratumswitcher*' -newer /usr/local/bin/editor -not -path '/mnt/*' -not -path ~root/'*' 2>/dev/null | grep .`),
	}},
}

// TestDocCommands plays the scenes.
func TestDocCommands(t *testing.T) {
	t.Parallel()
	blocks := docBlocks(t)
	for _, s := range docScenes {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			out, err := playScript(t, s.init, s.script(t, blocks))
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			t.Log(out)
			for _, wrong := range []string{"KeeperErrorCode", "Node does not exist", "Node already exists", "no fuzz tests", "no tests to run"} {
				if strings.Contains(out, wrong) {
					t.Errorf("the output must not contain %q:\n%s", wrong, out)
				}
			}
		})
	}
}

// script is the scene as a shell script. Each of its commands must succeed.
func (s docScene) script(t testing.TB, blocks []docBlock) string {
	t.Helper()
	var script strings.Builder
	script.WriteString(docStart)
	for _, step := range s.steps {
		text := step.script
		if step.page != "" {
			text = blocks[findBlock(t, blocks, step.page, step.block)].toRun()
		}
		if step.terminal != "" {
			text = "(" + text + ") >" + step.terminal + ".log 2>&1 </dev/null &"
		}
		script.WriteString(text + "\n")
	}
	return script.String()
}

// playScript runs a script in a machine of its own, with a copy of the source.
func playScript(t *testing.T, init []string, script string) (string, error) {
	t.Helper()
	shared := t.TempDir()
	source := filepath.Join(shared, "source")
	command(t, "", "cp", "-r", ".", source)
	for _, name := range []string{"config.json", "coins.json", "stratumSwitcher", "build"} {
		if err := os.RemoveAll(filepath.Join(source, name)); err != nil {
			t.Fatal(err)
		}
	}
	m := startMachineAlone(t, shared, init...)
	if init[0] == systemd[0] {
		m.expect("active", `systemctl is-active machine.target`)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 8*time.Minute)
	defer cancel()
	line := slices.Concat([]string{"nsenter", "-t", m.pid, "-m", "-n", "-p", "-u", "-i", "-C", "-r", "-w", "env", "-i"},
		docEnv(t), []string{"sh", "-exc", script})
	line = asRoot(line...)
	cmd := exec.CommandContext(ctx, line[0], line[1:]...)
	cmd.Stdin = strings.NewReader(strings.Repeat("y\n", 100_000)) // apt-get asks
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// docEnv is the environment of the scenes: that of a root user who has Go.
func docEnv(t testing.TB) []string {
	t.Helper()
	env := []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:" + strings.TrimSpace(command(t, "", "go", "env", "GOROOT")) + "/bin", "HOME=/root"}
	for _, name := range []string{"GOCACHE", "GOMODCACHE", "GOPROXY", "GOFLAGS", "GOTOOLCHAIN"} {
		env = append(env, name+"="+strings.TrimSpace(command(t, "", "go", "env", name)))
	}
	return env
}
