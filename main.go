// stratumSwitcher is a proxy for Stratum mining connections. It moves all
// miners of a sub-account from one coin's pool to another's when the coin in
// ZooKeeper changes, and keeps the miners' own connections up.
package main

import (
	"flag"
	"fmt"
	"maps"
	"net"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/golang/glog"
)

// version is set by the linker.
var version = "dev"

func main() {
	err := run(os.Args[1:])
	glog.Flush()
	if err != nil {
		fmt.Fprintln(os.Stderr, "stratumSwitcher:", err)
		os.Exit(1)
	}
}

// run is the program: it returns when a signal ends it, or with the reason why
// it can not work.
func run(args []string) error {
	configPath := flag.String("config", "./config.json", "configuration `file`")
	check := flag.Bool("check", false, "check the configuration and exit")
	showVersion := flag.Bool("version", false, "print the version and exit")
	if err := flag.CommandLine.Parse(args); err != nil {
		return err
	}
	if flag.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flag.Arg(0))
	}
	if *showVersion {
		fmt.Println("stratumSwitcher", version)
		return nil
	}
	config, err := loadConfig(*configPath)
	if err != nil {
		return err
	}
	if *check {
		fmt.Printf("%s is fine\n", *configPath)
		return nil
	}
	return serve(config)
}

// serve runs the daemon until SIGTERM or SIGINT.
func serve(config *Config) error {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	defer signal.Stop(stop)

	raiseDescriptorLimit()
	glog.Infof("stratumSwitcher version=%s pid=%d", version, os.Getpid())

	coins, err := newCoinSource(config)
	if err != nil {
		return err
	}
	defer coins.Close()
	m, err := newSessionManager(config, coins)
	if err != nil {
		return err
	}
	defer m.close()
	ln, err := listen(config.ListenAddr)
	if err != nil {
		return err
	}
	status, err := startStatus(config)
	if err != nil {
		ln.close()
		return err
	}
	defer status.close()
	coins.Start(m)
	m.serve(ln)

	sig := <-stop
	glog.Infof("stopping on %v", sig)
	return nil
}

// newCoinSource makes the source of coins that the configuration names.
func newCoinSource(c *Config) (CoinSource, error) {
	if len(c.ZKBroker) == 0 {
		return newFileCoinSource(c.CoinFile, c.ServerID)
	}
	return newZKCoinSource(zkOptionsOf(c))
}

func zkOptionsOf(c *Config) zkOptions {
	host, err := os.Hostname()
	if err != nil {
		glog.Warningf("host name: %v", err)
	}
	return zkOptions{
		Brokers:        c.ZKBroker,
		CoinDir:        c.ZKSwitcherWatchDir,
		ServerIDDir:    c.ZKServerIDAssignDir,
		AutoRegDir:     c.ZKAutoRegWatchDir,
		CaseIndexDir:   c.ZKUserCaseInsensitiveIndex,
		AutoReg:        c.EnableUserAutoReg,
		AutoRegMaxWait: c.AutoRegMaxWaitUsers,
		SessionTimeout: time.Duration(c.ZKSessionTimeoutSeconds) * time.Second,
		FixedServerID:  c.ServerID,
		Metadata: zkMetadata{
			ChainType:  c.ChainType,
			Coins:      slices.Sorted(maps.Keys(c.StratumServerMap)),
			IPs:        hostAddresses(),
			HostName:   host,
			ListenAddr: c.ListenAddr,
		},
	}
}

// hostAddresses are the machine's own addresses but the loopback ones, for the
// reader of a server ID's node.
func hostAddresses() []string {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		glog.Warningf("own addresses: %v", err)
	}
	ips := []string{}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && !n.IP.IsLoopback() && !n.IP.IsLinkLocalUnicast() {
			ips = append(ips, n.IP.String())
		}
	}
	return ips
}
