package stratumtest

import "time"

// Stage is the point of the handshake at which a pool closes the connection.
type Stage int

// These are the stages at which a pool can close a connection.
const (
	StageNever            Stage = iota
	StageAccept                 // when the connection is accepted
	StageSubscribe              // after the answer to subscribe
	StageAuthorizeRequest       // instead of an answer to authorize
	StageAuthorize              // after the answer to authorize, before any job
)

// Modes are the ways in which a pool can misbehave. They can be changed at any time and
// also apply to existing connections.
type Modes struct {
	Hang             bool  // reads and answers nothing
	CloseAt          Stage // closes in the middle of the handshake
	RefuseWorker     bool  // answers authorize with error 24, for the rest of the connection
	OtherExtranonce  bool  // answers subscribe with an extranonce other than the requested one
	Extranonce2Size  int   // 0 means 8
	NoJob            bool  // sends neither jobs nor difficulties
	AuthorizeFirst   bool  // answers authorize before subscribe
	EarlyNotify      bool  // sends mask, difficulty and job before the answer to authorize
	FirstJobNotClean bool  // the first job on a connection is not forced to be clean
	SendVersionMask  bool  // sends mining.set_version_mask with the first job
	NoVersionRolling bool  // refuses version rolling even if PoolOptions.VersionMask allows it
	IgnoreConfigure  bool  // does not answer mining.configure
	NoAgentAnswers   bool  // refuses agent.get_capabilities and answers no binary shares
	HalfAgentAnswers bool  // answers every second binary share of a connection, beginning with the first
	NoShareAnswers   bool  // checks and counts shares but answers none
	RejectShares     bool  // rejects all shares with code 20
	HandshakeDelay   time.Duration
	AnswerDelay      time.Duration // delay of each share's answer; jobs are not delayed
	Trickle          time.Duration // pause after each byte sent
}

// Modes returns the current modes.
func (p *Pool) Modes() Modes { return *p.modes.Load() }

// SetModes replaces all modes. Modes{} makes the pool behave well.
func (p *Pool) SetModes(m Modes) { p.modes.Store(&m) }

// Change lets a function change some of the modes. The function may be called more than
// once.
func (p *Pool) Change(change func(*Modes)) {
	for {
		old := p.modes.Load()
		next := *old
		change(&next)
		if p.modes.CompareAndSwap(old, &next) {
			return
		}
	}
}
