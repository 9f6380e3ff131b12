package coins

import (
	"errors"
	"testing"
)

func TestZKOptionsAreChecked(t *testing.T) {
	good := zkTestOptions("127.0.0.1:1")
	for _, change := range []func(*ZooKeeperOptions){
		func(o *ZooKeeperOptions) { o.Brokers = nil },
		func(o *ZooKeeperOptions) { o.Brokers = []string{" "} },
		func(o *ZooKeeperOptions) { o.CoinDir = "" },
		func(o *ZooKeeperOptions) { o.CoinDir = "relative" },
		func(o *ZooKeeperOptions) { o.CoinDir = "/a\x00b/" },
		func(o *ZooKeeperOptions) { o.ServerIDDir = "" },
		func(o *ZooKeeperOptions) { o.AutoReg, o.AutoRegDir = true, "" },
		func(o *ZooKeeperOptions) { o.CaseIndexDir = "x" },
	} {
		opts := good
		change(&opts)
		if s, err := NewZooKeeper(opts); err == nil {
			s.Close()
			t.Errorf("bad options were accepted: %+v", opts)
		}
	}
}

func TestZKErrorsOfTheClient(t *testing.T) {
	if err := zkError(errors.New("zk: something else")); errors.Is(err, errZKUnavailable) {
		t.Error("an unknown error counts as a lost connection")
	}
}
