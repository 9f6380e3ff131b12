// stratumSwitcher is a proxy for Stratum mining connections. It moves all miners of a
// sub-account from one coin's pool to another's when the sub-account's coin in ZooKeeper or
// in a file changes. The miners' own connections stay open.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/golang/glog"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/tunnel"
)

// init keeps the process's first thread for the main goroutine, which mostly waits
// for signals. The kernel prefers that thread when it delivers a signal to the process.
// If the thread were stuck in a file system that does not answer, SIGTERM could be
// delayed and only SIGKILL would work.
func init() { runtime.LockOSThread() }

func main() {
	log, err := run(os.Args[1:])
	log.end(err)
	if err != nil {
		os.Exit(1)
	}
}

// run is the program without os.Exit. It returns nil if a signal has ended the program,
// and otherwise the reason why the program cannot work. The log is nil if it was not
// started.
func run(args []string) (*processLog, error) {
	if len(args) == 1 && args[0] == tunnelArgument {
		stopMemoryProfile()
		return nil, tunnel.Serve(tunnel.ControlFD, tunnelProgram())
	}
	configPath := flag.String("config", "./config.json", "configuration `file`")
	runtimePath := flag.String("runtime", "", "state `file` of an upgrade, passed by the process that is being replaced")
	check := flag.Bool("check", false, "check the configuration and exit")
	askPools := flag.Bool("pools", false, "with -check: also ask each pool address what it gives")
	health := flag.Bool("healthcheck", false, "ask the running process whether it is healthy, and exit; for a container's health check")
	showVersion := flag.Bool("version", false, "print the version and exit")
	flag.CommandLine.Init(programName, flag.ContinueOnError)
	flag.CommandLine.SetOutput(io.Discard) // a mistake is reported in one line
	switch err := flag.CommandLine.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		printUsage(os.Stdout, flag.CommandLine)
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("%w; -help lists the flags", err)
	}
	switch {
	case flag.NArg() > 0:
		return nil, fmt.Errorf("unexpected argument %q", flag.Arg(0))
	case *showVersion:
		fmt.Println(programName, version)
		return nil, nil
	case *health:
		return nil, healthcheck(*configPath, os.Stdout)
	case *check:
		// The result of a check goes to whoever runs it. A full log disk must not
		// affect it.
		if err := flag.Set("logtostderr", "true"); err != nil {
			return nil, err
		}
		return nil, checkConfig(*configPath, *askPools)
	case *askPools:
		return nil, errors.New("-pools goes with -check")
	}
	log, err := startLog()
	if err != nil {
		return nil, err
	}
	d := &daemon{
		args:            args,
		log:             log,
		stop:            make(chan os.Signal, 4),
		upgradeRequests: make(chan os.Signal, 1),
		hangups:         make(chan os.Signal, 1),

		stopMemoryProfile: stopMemoryProfile,
	}
	signal.Notify(d.stop, syscall.SIGTERM, syscall.SIGINT)
	signal.Notify(d.hangups, syscall.SIGHUP)
	notifyUpgrade(d.upgradeRequests)
	raiseDescriptorLimit()
	glog.Infof("stratumSwitcher version=%s pid=%d", version, os.Getpid())
	if *runtimePath != "" {
		return log, d.resume(*configPath, *runtimePath)
	}
	return log, d.start(*configPath)
}

// stopMemoryProfile ends the sampling of allocations, which costs memory for each place
// in the code that allocates.
func stopMemoryProfile() { runtime.MemProfileRate = 0 }

// checkConfig implements -check and, with askPools, -check -pools. During the preflight
// of an upgrade it also checks what the running process cannot check for its successor.
func checkConfig(path string, askPools bool) error {
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
	if askPools {
		if err := checkPools(os.Stdout, config); err != nil {
			return err
		}
	}
	fmt.Printf("%s is fine\n", path)
	return nil
}
