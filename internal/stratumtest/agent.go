package stratumtest

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"
)

// AgentOptions says what an agent is like.
type AgentOptions struct {
	Addr      string
	Worker    string // of the agent itself; default "agent.1"
	UserAgent string // default "btccom-agent/0.1"
	Subscribe string // further parameters of subscribe, e.g. `,"EthereumStratum/1.0.0"`
	BodySize  int    // bytes of a share beside its sequence number; default 20
}

// AgentStats is a snapshot of what an agent has seen.
type AgentStats struct {
	Authorized     bool
	AuthorizeError string
	Submitted      uint64
	Accepted       uint64
	Rejected       uint64
	Unanswered     int
	Doubled        uint64 // answers to what is not waited for
	Jobs           uint64
	LastJobID      string
	Disconnected   bool
	Violations     []string
}

// Agent is a simulated BTCAgent: many workers on one connection. All methods
// may be called from any goroutine. Close ends its goroutine.
type Agent struct {
	opts  AgentOptions
	nc    net.Conn
	r     *bufio.Reader
	watch watch
	wg    sync.WaitGroup

	mu       sync.Mutex // guards the following fields
	waiting  map[agentShare]struct{}
	sequence uint32
	stats    AgentStats
}

type agentShare struct {
	session  uint16
	sequence uint32
}

// NewAgent connects and sends its handshake; it does not wait for the answers.
func NewAgent(opts AgentOptions) (*Agent, error) {
	if opts.Worker == "" {
		opts.Worker = "agent.1"
	}
	if opts.UserAgent == "" {
		opts.UserAgent = "btccom-agent/0.1"
	}
	if opts.BodySize == 0 {
		opts.BodySize = 20
	}
	nc, err := net.DialTimeout("tcp", opts.Addr, 20*time.Second)
	if err != nil {
		return nil, fmt.Errorf("agent %s: %w", opts.Worker, err)
	}
	a := &Agent{opts: opts, nc: nc, r: bufio.NewReaderSize(nc, 4096), waiting: map[agentShare]struct{}{}}
	a.wg.Add(1)
	go a.readLoop()
	a.send([]byte(`{"id":1,"method":"mining.subscribe","params":[` + quote(opts.UserAgent) + opts.Subscribe + "]}\n" +
		`{"id":2,"method":"mining.authorize","params":[` + quote(opts.Worker) + `,"x"]}` + "\n"))
	return a, nil
}

// Close ends the connection.
func (a *Agent) Close() {
	a.nc.Close()
	a.wg.Wait()
}

// Register registers a worker under a session id.
func (a *Agent) Register(session uint16, clientAgent, worker string) error {
	b := appendAgentHeader(nil, agentRegister, 2+len(clientAgent)+1+len(worker)+1)
	b = binary.LittleEndian.AppendUint16(b, session)
	b = append(b, clientAgent...)
	b = append(b, 0)
	b = append(b, worker...)
	return a.send(append(b, 0))
}

// Unregister takes a worker's session id back.
func (a *Agent) Unregister(session uint16) error {
	b := appendAgentHeader(nil, agentUnregister, 2)
	return a.send(binary.LittleEndian.AppendUint16(b, session))
}

// Submit submits the next numbered share of a worker. The share's bytes
// include line ends, magic bytes and quotes, so that nobody takes them for
// lines.
func (a *Agent) Submit(session uint16) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sequence++
	a.waiting[agentShare{session, a.sequence}] = struct{}{}
	a.stats.Submitted++
	b := appendAgentHeader(nil, agentSubmit, 2+4+a.opts.BodySize)
	b = binary.LittleEndian.AppendUint16(b, session)
	b = binary.LittleEndian.AppendUint32(b, a.sequence)
	const filler = "\n{\x7f\"}\r\n\x00"
	for i := range a.opts.BodySize {
		b = append(b, filler[i%len(filler)])
	}
	return a.write(b)
}

// Run registers that many workers, session ids from 0, submits that many
// shares of each, in turn, and waits for all answers.
func (a *Agent) Run(ctx context.Context, workers, shares int) error {
	for w := range workers {
		if err := a.Register(uint16(w), "sim/1.0", fmt.Sprintf("w%d", w)); err != nil {
			return err
		}
	}
	for range shares {
		for w := range workers {
			if err := a.Submit(uint16(w)); err != nil {
				return err
			}
		}
	}
	return a.WaitFor(ctx, func(s AgentStats) bool { return s.Unanswered == 0 })
}

// WaitAuthorized waits for a positive answer to authorize.
func (a *Agent) WaitAuthorized(ctx context.Context) error {
	err := a.WaitFor(ctx, func(s AgentStats) bool { return s.Authorized || s.AuthorizeError != "" || s.Disconnected })
	if s := a.Stats(); err == nil && !s.Authorized {
		return fmt.Errorf("agent %s: not authorized: %s", a.opts.Worker, s.AuthorizeError)
	}
	return err
}

// WaitFor waits until the statistics fulfil a condition.
func (a *Agent) WaitFor(ctx context.Context, condition func(AgentStats) bool) error {
	if err := a.watch.wait(ctx, func() bool { return condition(a.Stats()) }); err != nil {
		return fmt.Errorf("agent %s: %w; it has %+v", a.opts.Worker, err, a.Stats())
	}
	return nil
}

// Stats returns a snapshot.
func (a *Agent) Stats() AgentStats {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.stats
	s.Unanswered = len(a.waiting)
	s.Violations = append([]string(nil), s.Violations...)
	return s
}

func (a *Agent) send(b []byte) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.write(b)
}

// write must be called with mu held.
func (a *Agent) write(b []byte) error {
	a.nc.SetWriteDeadline(time.Now().Add(10 * time.Second))
	_, err := a.nc.Write(b)
	return err
}

func (a *Agent) readLoop() {
	defer a.wg.Done()
	for {
		err := a.readOne()
		if err != nil {
			a.mu.Lock()
			a.stats.Disconnected = true
			a.mu.Unlock()
		}
		a.watch.tell()
		if err != nil {
			return
		}
	}
}

func (a *Agent) readOne() error {
	first, err := a.r.Peek(1)
	if err != nil {
		return err
	}
	if first[0] == agentMagic {
		return a.readBinary()
	}
	line, err := readLine(a.r)
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	var m message
	if err := json.Unmarshal(line, &m); err != nil {
		a.violation("not JSON: %.200q", line)
		return nil
	}
	switch {
	case m.Method != "" && !a.stats.Authorized:
		a.violation("%s before the authorize answer", m.Method)
	case m.Method == "mining.notify":
		var params []json.RawMessage
		var id string
		json.Unmarshal(m.Params, &params)
		if len(params) > 0 {
			json.Unmarshal(params[0], &id)
		}
		a.stats.Jobs++
		a.stats.LastJobID = id
	case m.Method == "" && string(m.ID) == "2":
		a.stats.Authorized = string(m.Result) == "true"
		if !a.stats.Authorized {
			a.stats.AuthorizeError = string(m.Error)
		}
	case m.Method == "" && (string(m.ID) != "1" || !strings.HasPrefix(string(m.Result), "[")):
		a.violation("unexpected answer %.200q", line)
	}
	return nil
}

func (a *Agent) readBinary() error {
	head, err := a.r.Peek(4)
	if err != nil {
		return err
	}
	msg := make([]byte, max(4, int(binary.LittleEndian.Uint16(head[2:]))))
	if _, err := io.ReadFull(a.r, msg); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if msg[1] != agentSubmitAnswer || len(msg) != 11 {
		a.violation("binary message %x", msg)
		return nil
	}
	share := agentShare{binary.LittleEndian.Uint16(msg[4:]), binary.LittleEndian.Uint32(msg[6:])}
	if _, found := a.waiting[share]; !found {
		a.stats.Doubled++
		return nil
	}
	delete(a.waiting, share)
	if msg[10] == 1 {
		a.stats.Accepted++
	} else {
		a.stats.Rejected++
	}
	return nil
}

func (a *Agent) violation(format string, args ...any) {
	if len(a.stats.Violations) < maxFaults {
		a.stats.Violations = append(a.stats.Violations, fmt.Sprintf(format, args...))
	}
}
