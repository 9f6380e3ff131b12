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
	"runtime"
	"slices"
	"syscall"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/tunnel"
	"github.com/golang/glog"
)

// version is set by the linker.
var version = "dev"

// init keeps the process's first thread for the main goroutine, which mostly waits
// for signals. The kernel hands a signal for the process to that thread if it
// can. One that waits for a file system that does not answer only hears SIGKILL,
// and SIGTERM would be noticed when another thread happens to be signalled.
func init() { runtime.LockOSThread() }

func main() {
	log, err := run(os.Args[1:])
	log.end(err)
	if err != nil {
		os.Exit(1)
	}
}

// run is the program: it returns when a signal ends it, or with the reason why
// it can not work. The log is nil if there is none yet.
func run(args []string) (*processLog, error) {
	if len(args) == 1 && args[0] == "-tunnel" {
		return nil, tunnel.Serve(tunnel.ControlFD, version)
	}
	configPath := flag.String("config", "./config.json", "configuration `file`")
	runtimePath := flag.String("runtime", "", "state `file` of an upgrade, given by the process that is replaced")
	check := flag.Bool("check", false, "check the configuration and exit")
	showVersion := flag.Bool("version", false, "print the version and exit")
	if err := flag.CommandLine.Parse(args); err != nil {
		return nil, err
	}
	switch {
	case flag.NArg() > 0:
		return nil, fmt.Errorf("unexpected argument %q", flag.Arg(0))
	case *showVersion:
		fmt.Println(programName, version)
		return nil, nil
	case *check:
		// What a check has to say is for whoever runs it, and must not depend on
		// the room on the disk of the log.
		if err := flag.Set("logtostderr", "true"); err != nil {
			return nil, err
		}
		return nil, checkConfig(*configPath)
	}
	log, err := startLog()
	if err != nil {
		return nil, err
	}
	d := &daemon{
		args:   args,
		log:    log,
		stop:   make(chan os.Signal, 4),
		again:  make(chan os.Signal, 1),
		unused: make(chan os.Signal, 1),
	}
	signal.Notify(d.stop, syscall.SIGTERM, syscall.SIGINT)
	signal.Notify(d.unused, syscall.SIGHUP)
	notifyUpgrade(d.again)
	raiseDescriptorLimit()
	glog.Infof("stratumSwitcher version=%s pid=%d", version, os.Getpid())
	if *runtimePath != "" {
		return log, d.resume(*configPath, *runtimePath)
	}
	return log, d.start(*configPath)
}

// checkConfig is -check. As the preflight of an upgrade it also tries what the
// running process can not do for its successor.
func checkConfig(path string) error {
	config, err := loadConfig(path)
	if err != nil {
		return err
	}
	before, err := preflightContext()
	if err != nil {
		return err
	}
	warnings, notes, err := checkStart(config, before)
	if err != nil {
		return err
	}
	for _, warning := range warnings {
		fmt.Fprintln(os.Stderr, warning)
	}
	for _, note := range notes {
		fmt.Println(note)
	}
	if before != nil {
		if err := before.answer(); err != nil {
			return err
		}
	}
	fmt.Printf("%s is fine\n", path)
	return nil
}

func zkOptionsOf(c *Config) zkOptions {
	host, err := os.Hostname()
	if err != nil {
		glog.Warningf("host name: %v", err)
	}
	// What is not used is not given, as it need not be valid.
	opts := zkOptions{
		Brokers:        c.ZKBroker,
		CoinDir:        c.ZKSwitcherWatchDir,
		ServerIDDir:    c.ZKServerIDAssignDir,
		AutoReg:        c.EnableUserAutoReg,
		AutoRegMaxWait: c.AutoRegMaxWaitUsers,
		SessionTimeout: time.Duration(c.ZKSessionTimeoutSeconds) * time.Second,
		AuditEvery:     time.Duration(c.ZKAuditSeconds) * time.Second,
		FixedServerID:  c.ServerID,
		Metadata: zkMetadata{
			ChainType:  c.ChainType,
			Coins:      slices.Sorted(maps.Keys(c.StratumServerMap)),
			IPs:        hostAddresses(),
			HostName:   host,
			ListenAddr: c.ListenAddr,
		},
	}
	if c.EnableUserAutoReg {
		opts.AutoRegDir = c.ZKAutoRegWatchDir
	}
	if c.usesCaseIndex() {
		opts.CaseIndexDir = c.ZKUserCaseInsensitiveIndex
	}
	return opts
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
