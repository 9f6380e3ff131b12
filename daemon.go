package main

import (
	"os"

	"github.com/golang/glog"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/coins"
)

// daemon holds the parts of the running program.
type daemon struct {
	args            []string       // command-line arguments, passed on at an upgrade
	log             *processLog    // nil if glog writes its output itself
	stop            chan os.Signal // SIGTERM, SIGINT
	upgradeRequests chan os.Signal // SIGUSR2
	hangups         chan os.Signal // SIGHUP

	// binary is the path of the program that an upgrade starts. Empty means the path
	// of this program.
	binary string

	// stopMemoryProfile is called if nobody can ask for Go's heap profile. It concerns
	// the whole process, so it is nil in tests.
	stopMemoryProfile func()

	config *Config
	// configRefused is why an upgrade could not use the configuration file and
	// continues with the former process's configuration; nil if it could.
	configRefused error

	manager *sessionManager
	coins   coins.Source
	status  *statusServer
}

// start starts the daemon with no previous process to take over from, and serves until
// a signal ends it.
func (d *daemon) start(configPath string) error {
	var err error
	if d.config, err = loadConfig(configPath); err != nil {
		return err
	}
	removeStaleState()
	if err = d.prepare(nil); err != nil {
		return err
	}
	defer d.coins.Close()
	defer d.manager.openEvents(nil)()
	ln, err := listen(d.config.ListenAddr)
	if err != nil {
		return err
	}
	if d.status, err = startStatus(d.config, d.manager); err != nil {
		ln.Close()
		return err
	}
	defer d.status.close()
	d.manager.start()
	defer d.manager.close()
	d.manager.sizes.start(sizesFile, nil)
	d.coins.Start(d.manager)
	d.manager.serve(ln)
	go warnOfUnknownNames(d.manager.pools, lookupIPs, glog.Warningf)
	return d.run()
}

// prepare sets up everything that depends only on the configuration. st is the state
// that the previous process left, or nil if there was none. checkStart checks the same
// things in the same order.
func (d *daemon) prepare(st *runtimeState) error {
	if d.stopMemoryProfile != nil && !d.config.EnableHTTPDebug {
		d.stopMemoryProfile()
	}
	var err error
	if d.coins, err = newCoinSource(d.config, st); err != nil {
		return err
	}
	if st == nil { // at an upgrade, connected miners matter more than the file of events
		err = checkEventFile(d.config)
	}
	if err == nil {
		d.manager, err = newSessionManager(d.config, d.coins)
	}
	if err != nil {
		d.coins.Close()
		return err
	}
	d.manager.log = d.log
	return d.prepareTLS(st)
}

// prepareTLS reads the files that TLS needs. If there is a problem with them, a start
// fails. An upgrade only logs it, so that no connection is lost.
func (d *daemon) prepareTLS(st *runtimeState) error {
	if st != nil {
		if err := loadTrusts(d.manager.pools); err != nil {
			glog.Errorf("resume: %v; no connection can be made to pools that need it", err)
		}
		return nil
	}
	warnings, err := checkTLSFiles(d.config, d.manager.pools, d.manager.tunnels.prepare)
	if err != nil {
		d.coins.Close()
		return err
	}
	for _, warning := range warnings {
		glog.Warning(warning)
	}
	return nil
}

// run handles signals until SIGTERM or SIGINT arrives.
func (d *daemon) run() error {
	up, err := newUpgrader(d)
	if err != nil {
		glog.Errorf("upgrades are not possible: %v", err)
	}
	for {
		select {
		case sig := <-d.stop:
			d.manager.limitedLog.Flush()
			glog.Infof("stopping on %v", sig)
			return nil
		case <-d.upgradeRequests:
			if up == nil {
				glog.Error("upgrade refused: not possible, see above")
				continue
			}
			err := up.upgrade()
			d.manager.monitor.upgradeFailed(err)
			select {
			case <-d.upgradeRequests: // ignore a request made during the failed attempt
			default:
			}
			glog.Errorf("upgrade %v; the service goes on as before", err)
		case sig := <-d.hangups:
			glog.Warningf("signal %v is not used; SIGUSR2 reads the configuration again, by an upgrade", sig)
		}
	}
}
