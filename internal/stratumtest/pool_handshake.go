package stratumtest

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// ethProtocol is one of the three protocols of ethereum miners.
type ethProtocol int

const (
	ethStratum ethProtocol = iota
	ethNiceHash
	ethProxy
)

// handleLine handles one line. It returns false to close the connection.
func (c *poolConn) handleLine(line []byte) bool {
	var m message
	if err := json.Unmarshal(line, &m); err != nil {
		c.p.fault(c, "not JSON: %.100q", line)
		return false
	}
	switch m.Method {
	case "mining.submit", "eth_submitWork":
		c.hearSubmit(&m, line)
	case "mining.configure":
		return c.hearConfigure(&m)
	case "mining.subscribe":
		return c.hearSubscribe(&m)
	case "mining.authorize", "eth_submitLogin":
		return c.hearAuthorize(&m)
	case "agent.get_capabilities":
		c.handleCapabilities(&m)
	case "eth_getWork":
		c.hearGetWork(&m)
	case "mining.extranonce.subscribe", "mining.suggest_difficulty", "mining.suggest_target",
		"mining.multi_version", "mining.capabilities", "eth_submitHashrate":
		c.answer(&m, "true")
	case "mining.get_transactions":
		c.answer(&m, "[]")
	case "":
		if m.ID == nil && m.Result == nil {
			c.p.fault(c, "no method: %.100q", line)
		}
	default:
		c.p.fault(c, "unknown method %q", m.Method)
		c.refuse(&m, 20, "Unknown method")
	}
	return true
}

func (c *poolConn) hearConfigure(m *message) bool {
	if c.subscribed || c.configured {
		c.p.fault(c, "configure twice or after subscribe")
	}
	c.configured = true
	modes := c.p.Modes()
	if modes.IgnoreConfigure {
		return true
	}
	if !c.pause(modes.HandshakeDelay) {
		return false
	}
	var params []json.RawMessage
	var extensions []string
	var options map[string]any
	json.Unmarshal(m.Params, &params)
	if len(params) > 0 {
		json.Unmarshal(params[0], &extensions)
	}
	if len(params) > 1 {
		json.Unmarshal(params[1], &options)
	}
	result := map[string]any{}
	for _, name := range extensions {
		result[name] = false
		if name != "version-rolling" || c.p.opts.VersionMask == 0 || modes.NoVersionRolling {
			continue
		}
		asked := uint32(0xffffffff)
		if text, ok := options["version-rolling.mask"].(string); ok {
			if _, err := fmt.Sscanf(text, "%x", &asked); err != nil {
				c.p.fault(c, "version mask %q is not hex", text)
			}
		}
		c.mu.Lock()
		c.askedMask = asked
		c.mask = asked & c.p.opts.VersionMask
		result[name] = true
		result["version-rolling.mask"] = fmt.Sprintf("%08x", c.mask)
		c.mu.Unlock()
	}
	b, _ := json.Marshal(result)
	c.answer(m, string(b))
	return true
}

func (c *poolConn) hearSubscribe(m *message) bool {
	if c.subscribed {
		c.p.fault(c, "subscribe twice")
		c.refuse(m, 20, "Already subscribed")
		return true
	}
	modes := c.p.Modes()
	if !c.pause(modes.HandshakeDelay) {
		return false
	}
	var params []any
	if err := json.Unmarshal(m.Params, &params); err != nil && len(m.Params) > 0 {
		c.p.fault(c, "subscribe parameters %s are not an array", m.Params)
	}
	at := func(i int) string {
		if i < len(params) {
			s, _ := params[i].(string)
			return s
		}
		return ""
	}
	userAgent := at(0)
	c.agent = strings.HasPrefix(strings.ToLower(userAgent), "btccom-agent/")
	position, digits := 1, 8
	if c.p.opts.Chain == Ethereum {
		position, digits = 2, 6
		switch protocol := strings.ToLower(at(1)); {
		case strings.HasPrefix(protocol, "ethproxy"):
			c.eth = ethProxy
		case strings.HasPrefix(protocol, "ethereumstratum/") || c.agent:
			c.eth = ethNiceHash
		}
	}
	if own := c.p.opts.Own; own != nil && len(params) > 1 {
		c.p.fault(c, "subscribe has %d parameters, not only a user agent", len(params))
	}
	extranonce, ok := c.takeExtranonce(params, position, digits)
	if !ok {
		c.refuse(m, 20, "Bad session ID")
		return true
	}
	if modes.OtherExtranonce {
		b, _ := hex.DecodeString(extranonce)
		b[len(b)-1] ^= 1
		extranonce = hex.EncodeToString(b)
	}
	c.en1, _ = hex.DecodeString(extranonce)
	c.en2Size = 8
	if c.p.opts.Own != nil {
		c.en2Size = c.p.opts.Own.Size
	}
	if modes.Extranonce2Size > 0 {
		c.en2Size = modes.Extranonce2Size
	}
	c.subscribed = true
	c.mu.Lock()
	c.userAgent, c.subscribe, c.extranonce = userAgent, string(m.Params), extranonce
	c.mu.Unlock()
	c.p.note(&c.p.log.subscribes, maxNames, string(m.Params))
	c.claimExtranonce(extranonce)

	text := c.answerText(m, c.subscribeResult(extranonce, userAgent))
	if modes.AuthorizeFirst {
		c.held = text
		return true
	}
	c.send(text)
	return modes.CloseAt != StageSubscribe
}

// takeExtranonce returns the extranonce of a connection. A switcher sends it as the
// session ID, followed by the client's address. An ordinary miner sends neither, so the
// pool assigns an extranonce.
func (c *poolConn) takeExtranonce(params []any, position, digits int) (string, bool) {
	if len(params) <= position {
		c.p.mu.Lock()
		c.p.nextEN1++
		n := c.p.nextEN1
		c.p.mu.Unlock()
		if own := c.p.opts.Own; own != nil {
			return hex.EncodeToString(own.extranonce1(n)), true
		}
		return fmt.Sprintf("%08x", n)[8-digits:], true
	}
	text, _ := params[position].(string)
	if _, err := hex.DecodeString(text); err != nil || len(text) != digits || strings.ToLower(text) != text {
		c.p.fault(c, "session ID %v does not have %d lower case hex digits", params[position], digits)
		return "", false
	}
	if len(params) != position+2 {
		c.p.fault(c, "subscribe has %d parameters, not %d", len(params), position+2)
	} else if ip, ok := params[position+1].(float64); !ok || ip < 0 || ip > 0xffffffff || ip != float64(uint32(ip)) {
		c.p.fault(c, "client address %v is not a 32-bit number", params[position+1])
	}
	return text, true
}

// A proxy that replaces a connection keeps the old one until the new one is ready and
// the outstanding answers have arrived. Two connections may therefore have the same
// extranonce until nothing has happened for lookTimes checks in a row, or for mostLooks
// checks in all. The time between them counts as WithPatience does, because a busy machine
// delays the end of a connection.
const (
	lookEvery = 50 * time.Millisecond
	lookTimes = 15
	mostLooks = 300
)

// claimExtranonce records c as the newest connection with its extranonce. A fault is
// counted if an older one with the same extranonce stays open longer than necessary.
func (c *poolConn) claimExtranonce(extranonce string) {
	if len(extranonce) < 8 {
		return // a short extranonce cannot be unique
	}
	p := c.p
	p.mu.Lock()
	other := p.live[extranonce]
	p.live[extranonce] = c
	p.mu.Unlock()
	if other == nil {
		return
	}
	p.wg.Add(1)
	go c.lookAgain(other, extranonce)
}

func (c *poolConn) lookAgain(other *poolConn, extranonce string) {
	defer c.p.wg.Done()
	var heard uint64
	for looks, silent := 0, 0; silent < lookTimes && looks < mostLooks; looks++ {
		pause, cancel := WithPatience(context.Background(), lookEvery)
		ended := false
		select {
		case <-other.done:
			ended = true
		case <-c.done:
			ended = true
		case <-pause.Done():
		}
		cancel()
		if ended {
			return
		}
		silent++
		now := other.received.Load()
		if !c.isReady() {
			now += c.received.Load()
		}
		if now != heard || other.owes() || c.owes() {
			heard, silent = now, 0
		}
	}
	c.p.count.duplicateExtranonces.Add(1)
	c.p.fault(c, "extranonce %s is also that of connection %d", extranonce, other.id)
}

func (c *poolConn) subscribeResult(extranonce, userAgent string) string {
	switch c.p.opts.Chain {
	case Ethereum:
		if c.eth != ethNiceHash {
			return "true"
		}
		c.ethNonce = extranonce
		if strings.HasPrefix(strings.ToLower(userAgent), "nicehash/") {
			c.ethNonce = extranonce[:4]
		}
		return `[["mining.notify","` + extranonce + `","EthereumStratum/1.0.0"],"` + c.ethNonce + `"]`
	case DecredNormal:
		extranonce = "0000000000000000" + reverseHex(extranonce)
	case DecredGominer:
		extranonce = reverseHex(extranonce)
	}
	return fmt.Sprintf(`[[["mining.set_difficulty","%s"],["mining.notify","%s"]],"%s",%d]`,
		extranonce, extranonce, extranonce, c.en2Size)
}

func (c *poolConn) hearAuthorize(m *message) bool {
	modes := c.p.Modes()
	if m.Method == "eth_submitLogin" && !c.subscribed && c.p.opts.Chain == Ethereum {
		c.eth = ethProxy // an ETHProxy miner that is not behind a switcher does not subscribe
		c.subscribed = true
	}
	if !c.pause(modes.HandshakeDelay) {
		return false
	}
	if modes.CloseAt == StageAuthorizeRequest {
		return false
	}
	var params []json.RawMessage
	var name string
	json.Unmarshal(m.Params, &params)
	if len(params) > 0 {
		json.Unmarshal(params[0], &name)
	}
	if m.Worker != "" {
		name += "." + m.Worker
	}
	release := func() {
		if c.held != nil {
			c.send(c.held)
			c.held = nil
		}
	}
	if !c.subscribed {
		c.p.fault(c, "authorize before subscribe")
		c.refuse(m, 25, "Not subscribed")
		return true
	}
	treatment := c.p.treatment(name)
	switch treatment {
	case TreatHang:
		return true
	case TreatClose:
		return false
	case TreatSlowly:
		if !c.pause(slowlyAfter) {
			return false
		}
	}
	c.refuses = c.refuses || modes.RefuseWorker || treatment == TreatRefuseAndClose
	if name == "" || c.refuses || (c.p.opts.AcceptWorker != nil && !c.p.opts.AcceptWorker(name)) {
		c.p.note(&c.p.log.refused, maxNames, name)
		c.p.count.refused.Add(1)
		c.refuse(m, 24, "Unauthorized worker")
		release()
		c.p.watch.notify()
		if treatment == TreatRefuseAndClose {
			c.awaitWritten()
			return false
		}
		return true
	}
	c.p.note(&c.p.log.authorized, maxNames, name)
	c.p.mu.Lock()
	n := c.p.workers[name]
	if n == nil {
		n = &workerCount{}
		c.p.workers[name] = n
	}
	c.p.mu.Unlock()
	c.mu.Lock()
	first := len(c.workers) == 0
	c.workers[name] = n
	c.lastWorker = name
	c.mu.Unlock()

	if modes.EarlyNotify && first {
		c.start()
	}
	c.answer(m, "true")
	release()
	if modes.CloseAt == StageAuthorize {
		return false
	}
	if first {
		c.start()
		c.mu.Lock()
		c.counted = true
		c.mu.Unlock()
		c.p.count.handshakes.Add(1)
		c.p.count.ready.Add(1)
	}
	if treatment == TreatFlap {
		c.endSoon()
	}
	c.p.watch.notify()
	return true
}

func (c *poolConn) answer(m *message, result string) { c.send(c.answerText(m, result)) }

func (c *poolConn) answerText(m *message, result string) []byte {
	id := string(m.ID)
	if id == "" {
		id = "null"
	}
	if c.eth == ethProxy {
		return []byte(`{"id":` + id + `,"jsonrpc":"2.0","result":` + result + "}\n")
	}
	return []byte(`{"id":` + id + `,"result":` + result + `,"error":null}` + "\n")
}

func (c *poolConn) refuse(m *message, code int, text string) { c.send(c.errorText(m, code, text)) }

func (c *poolConn) errorText(m *message, code int, text string) []byte {
	id := string(m.ID)
	if id == "" {
		id = "null"
	}
	if c.eth == ethProxy {
		return fmt.Appendf(nil, `{"id":%s,"jsonrpc":"2.0","error":{"code":%d,"message":%s,"data":null}}`+"\n", id, code, quote(text))
	}
	return fmt.Appendf(nil, `{"id":%s,"result":null,"error":[%d,%s,null]}`+"\n", id, code, quote(text))
}

func reverseHex(s string) string {
	b, _ := hex.DecodeString(s)
	for i, j := 0, len(b)-1; i < j; i, j = i+1, j-1 {
		b[i], b[j] = b[j], b[i]
	}
	return hex.EncodeToString(b)
}
