package main

import (
	"flag"
	"io"
)

// usageText is what -help prints before the flags.
const usageText = `stratumSwitcher is a proxy for Stratum mining connections. It moves all miners
of a sub-account from one coin's pool to another's, and replaces its own
program, without closing a miner's connection.

usage: stratumSwitcher [flags]

  stratumSwitcher -check -pools       check ./config.json and ask its pools
  stratumSwitcher -logtostderr -v 1   run, with the log on standard error

./config.json, for instance:

  {
      "ServerID": 1,
      "ListenAddr": "0.0.0.0:18080",
      "CoinFile": "coins.json",
      "StratumServerMap": {
          "btc": {"URL": "127.0.0.1:3333"},
          "bcc": {"URL": "127.0.0.1:3334"}
      }
  }

coins.json then has the coin of each sub-account: {"alice": "btc"}

SIGUSR2 makes the running process load a new program or configuration and keep
its miners. SIGTERM ends it.

The manual is "man stratumSwitcher", and in full
https://github.com/BobZombiE69/btcpool-go-modules (docs/ in the source, in the
package /usr/share/doc/stratumswitcher).

flags:
`

// printUsage implements -help.
func printUsage(out io.Writer, flags *flag.FlagSet) {
	io.WriteString(out, usageText)
	flags.SetOutput(out)
	flags.PrintDefaults()
}
