package stratumtest

import "time"

// Stage is a point of the handshake at which a pool closes the connection.
type Stage int

// Stages of the handshake with a pool.
const (
	StageNever            Stage = iota
	StageAccept                 // as soon as it is accepted
	StageSubscribe              // after the answer to subscribe
	StageAuthorizeRequest       // instead of an answer to authorize
	StageAuthorize              // after the answer to authorize, before any job
)

// Modes are the ways in which a pool can misbehave. They can be changed at any time and
// also apply to existing connections.
type Modes struct {
	Hang             bool  // reads, but answers nothing
	CloseAt          Stage // closes in the middle of the handshake
	RefuseWorker     bool  // answers authorize with error 24, for the rest of the connection
	OtherExtranonce  bool  // answers subscribe with another extranonce than was asked for
	Extranonce2Size  int   // 0 means 8
	NoJob            bool  // sends no job (nor difficulty)
	AuthorizeFirst   bool  // answers authorize before subscribe
	EarlyNotify      bool  // sends mask, difficulty and job before the answer to authorize
	FirstJobNotClean bool  // the first job of a connection keeps its own clean flag
	SendVersionMask  bool  // sends mining.set_version_mask with the first job
	NoVersionRolling bool  // refuses version rolling whatever the options say
	IgnoreConfigure  bool  // does not answer mining.configure
	NoAgentAnswers   bool  // does not know agent.get_capabilities and answers no binary shares
	NoShareAnswers   bool  // checks and counts shares but answers none
	RejectShares     bool  // rejects all shares with code 20
	HandshakeDelay   time.Duration
	AnswerDelay      time.Duration // delay of each share's answer; jobs overtake them
	Trickle          time.Duration // pause after each byte sent
}

// Modes returns the present modes.
func (p *Pool) Modes() Modes { return *p.modes.Load() }

// SetModes replaces all modes. Modes{} makes the pool behave well.
func (p *Pool) SetModes(m Modes) { p.modes.Store(&m) }

// Change changes some modes.
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
