package testkit

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testport"
)

// Conduct is the reaction of a ChoosyPool to a request.
type Conduct uint8

const (
	ConductServe       Conduct = iota
	ConductRefuse              // answers with an error and stays connected
	ConductRefuseClose         // answers with an error and closes
	ConductClose               // closes without an answer
	ConductHang                // does not answer
	ConductJobClose            // serves, sends one job and closes
	ConductMute                // serves and answers shares, but sends only one job
)

// ChoosyPool is a pool for which the test decides how it reacts to each user agent and
// each worker. It accepts all shares without checking their work.
type ChoosyPool struct {
	Name string
	Ln   net.Listener
	Own  bool // whether the pool picks the extranonce

	// The following functions are called from the connections' goroutines and may block.
	OnAccept    func(k *ChoosyLink) Conduct
	OnSubscribe func(k *ChoosyLink, userAgent string) Conduct
	OnAuthorize func(k *ChoosyLink, worker string) Conduct
	OnSubmit    func(k *ChoosyLink, line string) // called before a share is accepted; may be nil

	// Total counts all connections, Most is the largest number that were open at once,
	// and Shares counts the shares submitted.
	Total, Most, Shares atomic.Int64

	mu    sync.Mutex
	Links map[*ChoosyLink]struct{}
	Jobs  int
	By    map[string]int // number of connections, by the first worker that they asked to authorize
	Wg    sync.WaitGroup
}

// ChoosyLink is a connection to a ChoosyPool.
type ChoosyLink struct {
	Pool   *ChoosyPool
	Nc     net.Conn
	Number int64 // counts the pool's connections from 1
	Asked  int   // number of mining.authorize requests so far

	Mu     sync.Mutex // guards writes and the following fields
	Worker string
	Served bool
	Mute   bool

	lastJob int // number of the last job sent, once Served is set
}

const (
	ChoosyRefusal     = `[24,"Unauthorized worker",null]`
	ChoosyNoUserAgent = `[25,"Not for this miner",null]`
)

// StartChoosyPool starts a pool that serves every miner, unless change sets functions
// that decide otherwise.
func StartChoosyPool(t testing.TB, name string, change func(*ChoosyPool)) *ChoosyPool {
	t.Helper()
	ln, err := testport.Listen()
	if err != nil {
		t.Fatal(err)
	}
	return ServeChoosyPool(t, ln, name, change)
}

// ServeChoosyPool is StartChoosyPool with the listener of the pool.
func ServeChoosyPool(t testing.TB, ln net.Listener, name string, change func(*ChoosyPool)) *ChoosyPool {
	p := &ChoosyPool{Name: name, Ln: ln, Links: make(map[*ChoosyLink]struct{}), By: make(map[string]int)}
	if change != nil {
		change(p)
	}
	p.Wg.Go(p.Accept)
	t.Cleanup(p.Close)
	return p
}

func (p *ChoosyPool) Addr() string { return p.Ln.Addr().String() }

func (p *ChoosyPool) Accept() {
	for {
		nc, err := p.Ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		k := &ChoosyLink{Pool: p, Nc: nc, Number: p.Total.Add(1)}
		p.mu.Lock()
		p.Links[k] = struct{}{}
		p.Most.Store(max(p.Most.Load(), int64(len(p.Links))))
		p.mu.Unlock()
		p.Wg.Go(k.Serve)
	}
}

func (p *ChoosyPool) Close() {
	p.Ln.Close()
	p.DropAll()
	p.Wg.Wait()
}

// All returns the connections that are open now.
func (p *ChoosyPool) All() []*ChoosyLink {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := make([]*ChoosyLink, 0, len(p.Links))
	for k := range p.Links {
		list = append(list, k)
	}
	return list
}

// DropAll closes all connections. The pool still listens.
func (p *ChoosyPool) DropAll() {
	for _, k := range p.All() {
		k.Nc.Close()
	}
}

// Served returns the open connections that have an authorized worker.
func (p *ChoosyPool) Served() (list []*ChoosyLink) {
	for _, k := range p.All() {
		k.Mu.Lock()
		if k.Served {
			list = append(list, k)
		}
		k.Mu.Unlock()
	}
	return list
}

// DropServed closes all connections that have an authorized worker.
func (p *ChoosyPool) DropServed() {
	for _, k := range p.Served() {
		k.Nc.Close()
	}
}

// Asked returns how many connections asked to authorize this worker first.
func (p *ChoosyPool) Asked(worker string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.By[worker]
}

// NewJob sends a new job to all connections that have an authorized worker, except those
// that are mute.
func (p *ChoosyPool) NewJob() {
	p.mu.Lock()
	p.Jobs++
	n := p.Jobs
	p.mu.Unlock()
	for _, k := range p.All() {
		k.Mu.Lock()
		// A connection whose worker was authorized meanwhile already has this job.
		if k.Served && !k.Mute && k.lastJob < n {
			k.lastJob = n
			io.WriteString(k.Nc, p.Job(n)+"\n")
		}
		k.Mu.Unlock()
	}
}

// GiveJobs sends new jobs at regular intervals until the end of the test.
func (p *ChoosyPool) GiveJobs(t testing.TB, every time.Duration) {
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				p.NewJob()
			case <-stop:
				return
			}
		}
	}()
	t.Cleanup(func() { close(stop); <-ended })
}

func (p *ChoosyPool) Job(n int) string {
	return stratumtest.JobLine(fmt.Sprintf("%s-%d", p.Name, n), false)
}

func (k *ChoosyLink) Serve() {
	p := k.Pool
	defer func() {
		k.Nc.Close()
		p.mu.Lock()
		delete(p.Links, k)
		p.mu.Unlock()
	}()
	if p.OnAccept != nil && !k.CarryOut(p.OnAccept(k), "", "") {
		return
	}
	r := bufio.NewReaderSize(k.Nc, 4096)
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return
		}
		var m struct {
			ID     json.RawMessage
			Method string
			Params []json.RawMessage
		}
		if json.Unmarshal(line, &m) != nil {
			return
		}
		text := func(i int) (s string) {
			if i < len(m.Params) {
				json.Unmarshal(m.Params[i], &s)
			}
			return s
		}
		id := string(m.ID)
		switch m.Method {
		case "mining.subscribe":
			extranonce := text(1)
			if p.Own || extranonce == "" {
				extranonce = fmt.Sprintf("%08x", 0xe0000000+k.Number)
			}
			c := ConductServe
			if p.OnSubscribe != nil {
				c = p.OnSubscribe(k, text(0))
			}
			if !k.CarryOut(c, id, ChoosyNoUserAgent) {
				return
			}
			if c == ConductServe {
				k.Write(fmt.Sprintf(`{"id":%s,"result":[[],"%s",8],"error":null}`, id, extranonce))
			}
		case "mining.authorize":
			if !k.Authorize(id, text(0)) {
				return
			}
		case "mining.submit":
			p.Shares.Add(1)
			if p.OnSubmit != nil {
				p.OnSubmit(k, string(line))
			}
			k.Write(`{"id":` + id + `,"result":true,"error":null}`)
		default:
			k.Write(`{"id":` + id + `,"result":null,"error":null}`)
		}
	}
}

func (k *ChoosyLink) Authorize(id, worker string) (staysOpen bool) {
	p := k.Pool
	k.Asked++
	p.mu.Lock()
	if k.Asked == 1 {
		p.By[worker]++
	}
	p.mu.Unlock()
	c := ConductServe
	if p.OnAuthorize != nil {
		c = p.OnAuthorize(k, worker)
	}
	switch c {
	case ConductServe, ConductMute, ConductJobClose:
	default:
		return k.CarryOut(c, id, ChoosyRefusal)
	}
	p.mu.Lock()
	n := p.Jobs
	p.mu.Unlock()
	k.Mu.Lock()
	k.Worker, k.Served, k.Mute, k.lastJob = worker, true, c == ConductMute, n
	io.WriteString(k.Nc, `{"id":`+id+`,"result":true,"error":null}`+"\n"+`{"id":null,"method":"mining.set_difficulty","params":[1]}`+"\n"+p.Job(n)+"\n")
	k.Mu.Unlock()
	return c != ConductJobClose
}

// CarryOut sends the refusal if c asks for one, and reports whether the connection stays
// open.
func (k *ChoosyLink) CarryOut(c Conduct, id, refusal string) bool {
	switch c {
	case ConductRefuse, ConductRefuseClose:
		k.Write(`{"id":` + id + `,"result":null,"error":` + refusal + `}`)
		return c == ConductRefuse
	case ConductClose:
		return false
	}
	return true
}

func (k *ChoosyLink) Write(line string) {
	k.Mu.Lock()
	defer k.Mu.Unlock()
	io.WriteString(k.Nc, line+"\n")
}
