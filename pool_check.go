package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

const (
	// poolCheckTimeout bounds how long the check of one address takes.
	poolCheckTimeout = 10 * time.Second
	// poolChecksAtOnce is how many addresses are asked at a time.
	poolChecksAtOnce = 8
	// configureWait is how long an answer to mining.configure may take after that
	// to mining.subscribe. Many pools never give one.
	configureWait = time.Second
	// usualMask is the version mask that most miners ask for.
	usualMask = 0x1fffe000
)

// These are the ids of a check's requests, in the order in which they are sent.
const (
	checkConfigureID = stratum.FirstOwnID + iota
	checkSubscribeID
)

// poolCheck implements -check -pools. It asks each pool of a configuration what the
// switcher would ask for a miner that is not authorized yet.
type poolCheck struct {
	chain     stratum.Chain
	sessionID uint32
	shape     stratum.Shape // the extranonce that a miner would be given
	lookup    func(ctx context.Context, host string) ([]netip.Addr, error)
	timeout   time.Duration // for one address
	ipTimeout time.Duration // for one IP of an address
}

// checkedAddress is one address of StratumServerMap. Coins that would ask the same
// question share it.
type checkedAddress struct {
	keys            []string // the configuration keys that name it
	at              *poolAddress
	picksExtranonce bool
	main            bool // it is the URL of a coin and not only a backup
}

// checkPools asks all pools of a configuration and prints what they answer.
func checkPools(out io.Writer, c *Config) error {
	addresses, err := checkedAddresses(c)
	if err != nil {
		return err
	}
	q, err := newPoolCheck(c)
	if err != nil {
		return err
	}
	return q.run(out, addresses)
}

// newPoolCheck prepares the check of a configuration. It uses the session ID that is
// allocated last, so that no miner has the same one.
func newPoolCheck(c *Config) (*poolCheck, error) {
	chain, err := stratum.ParseChain(c.ChainType)
	if err != nil {
		return nil, err
	}
	id := uint32(c.ServerID)<<chain.IndexBits() | (1<<chain.IndexBits() - 1)
	plan := planExtranonce(c)
	if plan.width == poolOnlyWidth && c.ExtraNonce2Size == 0 {
		plan.size = minerSizes[len(minerSizes)-1] // any size that a miner could use is accepted
	}
	return &poolCheck{
		chain: chain, sessionID: id, shape: plan.shapeFor(id, false),
		lookup: lookupIPs, timeout: poolCheckTimeout, ipTimeout: askTimeout,
	}, nil
}

// checkedAddresses returns the addresses of a configuration, sorted by coin and each
// coin's in the configured order.
func checkedAddresses(c *Config) ([]*checkedAddress, error) {
	pools, err := newPools(c, newHealth())
	if err != nil {
		return nil, err
	}
	if err := loadTrusts(pools); err != nil {
		return nil, err
	}
	type question struct {
		at              *poolAddress
		picksExtranonce bool
	}
	known := make(map[question]*checkedAddress)
	var all []*checkedAddress
	for _, coin := range slices.Sorted(maps.Keys(pools)) {
		p := pools[coin]
		for i, at := range p.addresses {
			key := urlKey(coin, i)
			q := question{at, p.picksExtranonce}
			if known[q] == nil {
				known[q] = &checkedAddress{at: at, picksExtranonce: p.picksExtranonce}
				all = append(all, known[q])
			}
			known[q].keys = append(known[q].keys, key)
			known[q].main = known[q].main || i == 0
		}
	}
	return all, nil
}

// run prints a line for each address, in order. It returns an error if the URL of a
// coin fails. If only a backup fails, the coin still has a pool.
func (q *poolCheck) run(out io.Writer, addresses []*checkedAddress) error {
	turns := make(chan struct{}, poolChecksAtOnce)
	type outcome struct {
		text string
		err  error
	}
	outcomes := make([]chan outcome, len(addresses))
	for i := range addresses {
		outcomes[i] = make(chan outcome, 1)
	}
	go func() {
		for i, a := range addresses {
			turns <- struct{}{}
			go func() {
				defer func() { <-turns }()
				text, err := q.check(a)
				outcomes[i] <- outcome{text, err}
			}()
		}
	}()
	failed := 0
	for i, a := range addresses {
		o := <-outcomes[i]
		verdict := o.text
		if o.err != nil {
			verdict = "fails: " + o.err.Error()
			if a.main {
				failed++
			}
		}
		fmt.Fprintf(out, "%s %s: %s\n", strings.Join(a.keys, ", "), a.at.text, verdict)
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d pool addresses fail, each the URL of a coin", failed, len(addresses))
	}
	return nil
}

// check looks an address up and asks its IPs one after the other until one answers. It
// returns a description of the answer.
func (q *poolCheck) check(a *checkedAddress) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), q.timeout)
	defer cancel()
	began := time.Now()
	var ips []netip.Addr
	if a.at.named {
		lookup, cancel := context.WithTimeout(ctx, min(resolveTimeout, q.timeout))
		defer cancel()
		var err error
		if ips, err = q.lookup(lookup, a.at.host); err != nil {
			return "", errors.New(lookupProblem(err))
		}
		for i := range ips { // the resolver may return IPv4 as ::ffff:192.0.2.1
			ips[i] = ips[i].Unmap()
		}
	} else {
		ip, err := netip.ParseAddr(a.at.host)
		if err != nil {
			return "", err
		}
		ips = []netip.Addr{ip.Unmap()}
	}
	var problems []string
	for _, ip := range ips[:min(len(ips), maxAskedIPs)] {
		given, err := q.ask(ctx, a, netip.AddrPortFrom(ip, a.at.port))
		if err == nil {
			text := fmt.Sprintf("%s, answered in %d ms", ipsText(ips, ip, a.at.named), time.Since(began).Milliseconds())
			return strings.Join(append([]string{text, given}, problems...), "; "), nil
		}
		problem := err.Error()
		if a.at.named {
			problem = ip.String() + " " + problem
		}
		problems = append(problems, problem)
		if ctx.Err() != nil {
			break
		}
	}
	return "", errors.New(strings.Join(problems, "; "))
}

// ipsText names the IP that answered, and the others.
func ipsText(ips []netip.Addr, answered netip.Addr, named bool) string {
	if !named || len(ips) == 1 {
		return "IP " + answered.String()
	}
	all := make([]string, 0, len(ips))
	for _, ip := range ips {
		all = append(all, ip.String())
	}
	return fmt.Sprintf("IPs %s, of which %s", strings.Join(all, " "), answered)
}

// ask asks one IP and describes what it gives.
func (q *poolCheck) ask(ctx context.Context, a *checkedAddress, ip netip.AddrPort) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, q.ipTimeout)
	defer cancel()
	d := poolCheckDialogue{check: q, picksExtranonce: a.picksExtranonce, subscribed: func() { time.AfterFunc(configureWait, cancel) }}
	connected, secured := false, ""
	err := askPool(ctx, &poolQuestion{
		addr: ip.String(), tls: a.at.tls, requests: q.requests(a.picksExtranonce), answered: d.answered,
		connected: func() { connected = true },
		secured:   func(state tls.ConnectionState) { secured = securedText(state) + ", " },
	})
	if d.given != "" {
		return secured + d.given + ", " + d.rolling(), nil // without an answer to mining.configure
	}
	return "", askProblem(err, connected, a.at.tls != nil && secured == "", q.ipTimeout)
}

// requests returns the first requests of a miner's link, without a worker.
func (q *poolCheck) requests(picksExtranonce bool) []byte {
	var b []byte
	if q.chain == stratum.Bitcoin {
		b = stratum.AppendConfigure(b, checkConfigureID, usualMask)
	}
	params := q.chain.PoolSubscribeParams(&stratum.Subscription{}, q.sessionID, netip.IPv4Unspecified())
	if picksExtranonce {
		params = params[:1]
	}
	return stratum.AppendRequest(b, stratum.OwnIDText(checkSubscribeID), "mining.subscribe", params...)
}

// poolCheckDialogue holds what one IP has answered so far.
type poolCheckDialogue struct {
	check           *poolCheck
	picksExtranonce bool
	subscribed      func()            // called when mining.subscribe is answered
	given           string            // the answer to mining.subscribe in words; empty if there is none
	configured      *stratum.Response // answer to mining.configure
}

// answered reads one answer. It reports whether both requests are answered.
func (d *poolCheckDialogue) answered(r *stratum.Response) (bool, error) {
	id, ok := stratum.OwnIDOf(r.ID)
	if !ok {
		id = d.inTurn(r)
	}
	switch {
	case id == checkConfigureID:
		d.configured = r
	case id == checkSubscribeID && d.given == "":
		if !stratum.NoError(r.Error) {
			return true, &subscribeError{r}
		}
		given, err := d.check.given(r, d.picksExtranonce)
		if err != nil {
			return true, err
		}
		d.given = given
		d.subscribed()
	}
	return d.given != "" && (d.configured != nil || d.check.chain != stratum.Bitcoin), nil
}

// inTurn returns the request that an answer with a foreign id is for, or 0; see
// poolLink.inTurn.
func (d *poolCheckDialogue) inTurn(r *stratum.Response) uint32 {
	configuring := d.check.chain == stratum.Bitcoin && d.configured == nil
	switch {
	case string(r.Result) == "[]":
		return 0
	case len(r.Result) > 0 && r.Result[0] == '[':
		return checkSubscribeID
	case configuring:
		return checkConfigureID
	case d.check.chain == stratum.Ethereum || !stratum.NoError(r.Error):
		return checkSubscribeID
	}
	return 0
}

// given describes the extranonce in the answer to mining.subscribe. It returns an error
// if miners of this configuration could not mine with it.
func (q *poolCheck) given(r *stratum.Response, picksExtranonce bool) (string, error) {
	if !picksExtranonce {
		if err := q.chain.CheckPoolSubscribe(&stratum.Subscription{}, q.sessionID, r.Result); err != nil {
			return "", err
		}
		if q.chain != stratum.Bitcoin {
			return "takes the switcher's extranonce", nil
		}
	}
	given, err := stratum.ParseGiven(r.Result)
	if err != nil {
		if !picksExtranonce && q.shape.Extranonce1 == "" {
			return "takes the switcher's extranonce, does not give a size of extranonce2", nil
		}
		return "", err
	}
	if !picksExtranonce {
		_, err = q.shape.Fill(given.Size)
		return fmt.Sprintf("takes the switcher's extranonce, extranonce2 of %d bytes", given.Size), err
	}
	_, err = q.shape.Translate(given.Extranonce1, given.Size)
	if small, ok := errors.AsType[*stratum.SizeError](err); ok {
		err = fmt.Errorf("gives extranonce2 of %d bytes, miners here need %d", small.Given, small.Needed)
	}
	return fmt.Sprintf("picks extranonce1 of %d bytes, extranonce2 of %d bytes", len(given.Extranonce1)/2, given.Size), err
}

// rolling describes whether the pool supports version rolling.
func (d *poolCheckDialogue) rolling() string {
	switch {
	case d.check.chain != stratum.Bitcoin:
		return "no version rolling on this chain"
	case d.configured == nil:
		return "no answer to mining.configure (version rolling unknown)"
	}
	if rolling, mask := rollingOf(d.configured); rolling {
		return fmt.Sprintf("version rolling with mask %08x", mask)
	}
	return "no version rolling"
}

// askProblem describes why an IP did not answer.
func askProblem(err error, connected, handshaking bool, timeout time.Duration) error {
	late := errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded)
	switch {
	case late && !connected:
		return fmt.Errorf("does not take a connection within %v", timeout)
	case late && handshaking:
		return fmt.Errorf("takes the connection but does not finish the TLS handshake within %v", timeout)
	case late:
		return fmt.Errorf("takes the connection but does not answer mining.subscribe within %v", timeout)
	case connected && handshaking:
		return err
	case errors.Is(err, io.EOF), connected && errors.Is(err, syscall.ECONNRESET):
		return errors.New("closes the connection without an answer to mining.subscribe: is it a Stratum port, and does it use TLS if and only if the URL says so?")
	}
	if e, ok := errors.AsType[*net.OpError](err); ok && !connected {
		return e.Err
	}
	return err
}
