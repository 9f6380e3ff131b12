package stratumtest

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"
)

// AgentOptions describes an agent.
type AgentOptions struct {
	Addr      string
	TLS       *tls.Config // nil disables TLS
	Worker    string      // name the agent itself authorizes with; default "agent.1"
	UserAgent string      // default: that of an agent of the simulated version
	// Old simulates BTCAgent 1.x, which is written in C++. That version subscribes first
	// and accepts a version mask only until its authorization is answered. Without Old,
	// the agent behaves like 2.x.
	Old bool
	// NoAnswers makes the agent not request answers to its shares.
	NoAnswers bool
}

// AgentStats is a snapshot of what an agent has seen.
type AgentStats struct {
	Authorized     bool
	AuthorizeError string
	Submitted      uint64
	Accepted       uint64
	Rejected       uint64
	Unanswered     int
	Refused        map[uint32]uint64 // rejected shares by status
	Doubled        uint64            // answers to shares that are not waiting for one
	Disordered     uint64            // answers that came after the answer to a later share
	Answers        bool              // whether the pool announced that it answers shares
	VersionMask    uint32
	Jobs           uint64
	CleanJobs      uint64
	Disconnected   bool
	Violations     []string
}

// Agent is a simulated BTCAgent, which serves many workers over one connection. Any
// goroutine may call its methods. Close stops the goroutine that reads.
type Agent struct {
	opts  AgentOptions
	nc    net.Conn
	r     *bufio.Reader
	watch watch
	wg    sync.WaitGroup

	mu       sync.Mutex          // guards the following fields
	waiting  map[uint16]struct{} // numbers of the shares still unanswered
	index    uint16              // number of the next share
	answered uint16              // number of the share answered last
	sequence uint32
	job      byte
	nonce    uint32 // the nonce that the job's shares must have
	stats    AgentStats
}

// NewAgent connects and sends its handshake; it does not wait for the answers.
func NewAgent(opts AgentOptions) (*Agent, error) {
	if opts.Worker == "" {
		opts.Worker = "agent.1"
	}
	if opts.UserAgent == "" {
		opts.UserAgent = "btccom-agent/2.0.0-mu"
		if opts.Old {
			opts.UserAgent = "btccom-agent/1.0.0-su"
		}
	}
	nc, err := net.DialTimeout("tcp", opts.Addr, 20*time.Second)
	if err != nil {
		return nil, fmt.Errorf("agent %s: %w", opts.Worker, err)
	}
	if nc, err = overTLS(nc, opts.TLS); err != nil {
		return nil, fmt.Errorf("agent %s: %w", opts.Worker, err)
	}
	a := &Agent{opts: opts, nc: nc, r: bufio.NewReaderSize(nc, 4096), waiting: map[uint16]struct{}{}, answered: 0xffff}
	a.stats.Refused = map[uint32]uint64{}
	a.wg.Add(1)
	go a.readLoop()
	if opts.Old {
		a.send([]byte(`{"id":1,"method":"mining.subscribe","params":[` + quote(opts.UserAgent) + "]}\n"))
	} else {
		a.send(a.capabilities("conn_test"))
	}
	return a, nil
}

// capabilities returns the request for the pool's capabilities.
func (a *Agent) capabilities(id string) []byte {
	names := `"verrol","subres"`
	if a.opts.NoAnswers {
		names = `"verrol"`
	}
	return []byte(`{"id":` + quote(id) + `,"method":"agent.get_capabilities","params":[[` + names + "]]}\n")
}

// proceed returns the requests that an agent sends after the first answer.
func (a *Agent) proceed() []byte {
	const configure = `"method":"mining.configure","params":[["version-rolling"],{"version-rolling.mask":"ffffffff","version-rolling.min-bit-count":0}]}` + "\n"
	authorize := `"method":"mining.authorize","params":[` + quote(a.opts.Worker) + `,""]}` + "\n"
	if a.opts.Old {
		caps := string(a.capabilities("agent.caps"))
		return []byte(`{"id":1,` + configure + caps + `{"id":1,` + authorize + caps)
	}
	return []byte(string(a.capabilities("caps")) + `{"id":"conf",` + configure +
		`{"id":"sub","method":"mining.subscribe","params":[` + quote(a.opts.UserAgent) + "]}\n" +
		`{"id":"auth",` + authorize + string(a.capabilities("caps_again")))
}

// Close ends the connection.
func (a *Agent) Close() {
	a.nc.Close()
	a.wg.Wait()
}

// Register registers a worker under a session ID.
func (a *Agent) Register(session uint16, clientAgent, worker string) error {
	b := agentMessageHead(agentRegister, 2+len(clientAgent)+1+len(worker)+1)
	b = binary.LittleEndian.AppendUint16(b, session)
	b = append(b, clientAgent...)
	b = append(b, 0)
	b = append(b, worker...)
	return a.send(append(b, 0))
}

// Unregister releases a worker's session ID.
func (a *Agent) Unregister(session uint16) error {
	b := agentMessageHead(agentUnregister, 2)
	return a.send(binary.LittleEndian.AppendUint16(b, session))
}

// Submit submits a worker's next share for the latest job. Successive shares use
// different message types. Times and masks contain line feeds and quotes, which a proxy
// must not mistake for the ends of lines.
func (a *Agent) Submit(session uint16) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.submit(session, a.job, a.nonce)
}

// Job returns the number of the latest job, and the nonce that its shares must
// have.
func (a *Agent) Job() (job byte, nonce uint32) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.job, a.nonce
}

// SubmitFor submits a worker's next share for a job, which may be an older one.
func (a *Agent) SubmitFor(session uint16, job byte, nonce uint32) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.submit(session, job, nonce)
}

// submit must be called with mu held.
func (a *Agent) submit(session uint16, job byte, nonce uint32) error {
	a.sequence++
	if a.stats.Answers {
		a.waiting[a.index] = struct{}{}
		a.index++
	}
	a.stats.Submitted++
	kind := []byte{agentSubmit, agentSubmitTime, agentSubmitMask, agentSubmitTimeMask}[a.sequence%4]
	b := agentMessageHead(kind, agentShareSize(kind)-4)
	b = append(b, job)
	b = binary.LittleEndian.AppendUint16(b, session)
	b = binary.LittleEndian.AppendUint32(b, a.sequence)
	b = binary.LittleEndian.AppendUint32(b, nonce)
	for len(b) < agentShareSize(kind) {
		b = append(b, "\n{\x7f\""...)
	}
	return a.write(b)
}

// Run registers workers under session IDs counted from 0, submits the given number of
// shares for each of them in rounds, and waits for all answers. A round begins when at
// most a quarter of a round is unanswered, which limits the shares in flight.
func (a *Agent) Run(ctx context.Context, workers, shares int) error {
	for w := range workers {
		if err := a.Register(uint16(w), "sim/1.0", fmt.Sprintf("w%d", w)); err != nil {
			return err
		}
	}
	for range shares {
		if err := a.WaitFor(ctx, func(s AgentStats) bool { return s.Unanswered <= workers/4 }); err != nil {
			return err
		}
		for w := range workers {
			if err := a.Submit(uint16(w)); err != nil {
				return err
			}
		}
	}
	return a.WaitFor(ctx, func(s AgentStats) bool { return s.Unanswered == 0 })
}

// WaitAuthorized waits until the pool has accepted the authorization and sent a job.
func (a *Agent) WaitAuthorized(ctx context.Context) error {
	err := a.WaitFor(ctx, func(s AgentStats) bool { return s.Authorized && s.Jobs > 0 || s.AuthorizeError != "" || s.Disconnected })
	if s := a.Stats(); err == nil && !s.Authorized {
		return fmt.Errorf("agent %s: not authorized: %s", a.opts.Worker, s.AuthorizeError)
	}
	return err
}

// WaitFor waits until the statistics satisfy a condition.
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
	s.Refused = maps.Clone(s.Refused)
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
		a.watch.notify()
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
		a.violation("a line is not JSON: %.200q", line)
		return nil
	}
	switch {
	case m.Method == "mining.set_version_mask":
		if !a.stats.Authorized || !a.opts.Old {
			var params []string
			json.Unmarshal(m.Params, &params)
			if mask, err := parseHex32(strings.Join(params, "")); err == nil {
				a.stats.VersionMask = mask
			}
		}
	case m.Method != "" && !a.stats.Authorized:
		a.violation("%s came before the answer to authorize", m.Method)
	case m.Method == "mining.notify":
		a.takeJob(m.Params)
	case m.Method == "":
		a.takeAnswer(&m, line)
	}
	return nil
}

// takeJob stores a job. Agents parse the job ID as an 8-bit number.
func (a *Agent) takeJob(raw json.RawMessage) {
	var params []json.RawMessage
	var id, prev string
	json.Unmarshal(raw, &params)
	if len(params) != 9 {
		a.violation("a job has %d parameters", len(params))
		return
	}
	json.Unmarshal(params[0], &id)
	json.Unmarshal(params[1], &prev)
	number, err := strconv.ParseUint(id, 10, 8)
	nonce, err2 := strconv.ParseUint(prev[:min(8, len(prev))], 16, 32)
	if err != nil || err2 != nil {
		a.violation("job %s with previous hash %q cannot be decoded", params[0], prev)
		return
	}
	a.job, a.nonce = byte(number), uint32(nonce)
	a.stats.Jobs++
	if string(params[8]) == "true" {
		a.stats.CleanJobs++
	}
}

// takeAnswer handles an answer and continues the handshake.
func (a *Agent) takeAnswer(m *message, line []byte) {
	authorized := func() {
		a.stats.Authorized = string(m.Result) == "true"
		if !a.stats.Authorized {
			a.stats.AuthorizeError = string(m.Error)
		}
	}
	switch id := string(m.ID); {
	case id == `"conn_test"`:
		a.write(a.proceed())
	case id == `"caps"` || id == `"agent.caps"`:
		a.stats.Answers = !a.opts.NoAnswers && strings.Contains(string(m.Result), `"subres"`)
	case id == `"caps_again"` || id == `"conf"` || id == "1" && strings.HasPrefix(string(m.Result), "{"):
	case id == `"sub"` || id == "1" && strings.HasPrefix(string(m.Result), "["):
		if !strings.HasSuffix(string(m.Result), ",8]") {
			a.violation("subscribe got an unexpected answer: %.200q", line)
		}
		if a.opts.Old {
			a.write(a.proceed())
		}
	case id == `"auth"` || id == "1":
		authorized()
	default:
		a.violation("an answer is unexpected: %.200q", line)
	}
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
	if msg[1] != agentSubmitAnswer || len(msg) != 10 || a.opts.NoAnswers {
		a.violation("a binary message is unexpected: %x", msg)
		return nil
	}
	share, status := binary.LittleEndian.Uint16(msg[4:]), binary.LittleEndian.Uint32(msg[6:])
	if _, found := a.waiting[share]; !found {
		a.stats.Doubled++
		return nil
	}
	delete(a.waiting, share)
	if int16(share-a.answered) < 0 {
		a.stats.Disordered++
	}
	a.answered = share
	if status == AgentAccept {
		a.stats.Accepted++
	} else {
		a.stats.Rejected++
		a.stats.Refused[status]++
	}
	return nil
}

func (a *Agent) violation(format string, args ...any) {
	if len(a.stats.Violations) < maxFaults {
		a.stats.Violations = append(a.stats.Violations, fmt.Sprintf(format, args...))
	}
}
