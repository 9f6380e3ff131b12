package hashrate

import "bytes"

// Refusal is why a pool refused a share.
type Refusal uint8

const (
	RefusalStale         Refusal = iota // its job is over, or the pool does not know it
	RefusalDuplicate                    // it was sent before
	RefusalLowDifficulty                // its hash is above the target
	RefusalUnauthorized                 // the pool does not know the worker
	RefusalOther
	Refusals
)

var refusalNames = [Refusals]string{"stale", "duplicate", "low_difficulty", "unauthorized", "other"}

// String is the name that metrics have.
func (r Refusal) String() string { return refusalNames[r] }

// RefusalOfCode tells the reason from an error code, as an agent's answer has it.
// 20 to 25 are Stratum's own; 36 and 37 are btcpool's for jobs that are not there
// and that are over (StratumStatus in its Stratum.h).
func RefusalOfCode(code int) Refusal {
	switch code {
	case 21, 36, 37:
		return RefusalStale
	case 22:
		return RefusalDuplicate
	case 23:
		return RefusalLowDifficulty
	case 24:
		return RefusalUnauthorized
	}
	return RefusalOther
}

// refusalText is a part of a pool's message, in lower case, that tells the reason.
type refusalText struct {
	text    []byte
	meaning Refusal
}

// refusalTexts are looked for in this order. A text counts more than the code:
// many pools have only 20 or -1, and some use a code for what it does not mean.
//
// Where they are from, by project and file:
//
//	btcpool, src/Stratum.cc                "Job not found (=stale)", "Stale share", "Duplicate share",
//	                                       "Low difficulty", "Unauthorized worker", "Time too new"
//	OCEAN's datum_gateway, datum_stratum.c [20,"unknown-work"], [21,"stale-work"], [21,"stale-prevblk"],
//	                                       [21,"time-too-old"], [22,"duplicate"], [23,"high-hash"],
//	                                       [23,"H-not-zero"], [23,"bad-version"]
//	ckpool, share_errs in libckpool.h      "reject-reason" beside the error: "Invalid JobID", "Stale",
//	                                       "Duplicate", "Above target", "Worker mismatch", "Ntime out of range"
//	public-pool, StratumV1Client.ts        "Job not found", "Duplicate share", "Difficulty too low"
//	node-stratum-pool, jobManager.js       "job not found", "low difficulty share of N", "unauthorized worker"
//	stratum-mining, template_registry.py   "Job 'N' not found", "Share is above target", "Worker is not authorized"
//	dcrpool, internal/pool/message.go      "Stale Job", "Duplicate share", "Low difficulty share"
//	open-ethereum-pool, proxy/handlers.go  22 "Duplicate share", 23 "Invalid share"
//	miningcore, StratumError.cs            the codes, and -1
//	NiceHash (Specifications, issue 17)    "Share above target"
//	Monero's p2pool (issue 213)            "Invalid job id"
var refusalTexts = []refusalText{
	{[]byte("duplicate"), RefusalDuplicate},
	{[]byte("already submitted"), RefusalDuplicate},
	{[]byte("stale"), RefusalStale},
	{[]byte("unknown-work"), RefusalStale},
	{[]byte("unknown work"), RefusalStale},
	{[]byte("unknown job"), RefusalStale},
	{[]byte("invalid job"), RefusalStale},
	{[]byte("job expired"), RefusalStale},
	{[]byte("block expired"), RefusalStale},
	{[]byte("above target"), RefusalLowDifficulty},
	{[]byte("low diff"), RefusalLowDifficulty},
	{[]byte("low-diff"), RefusalLowDifficulty},
	{[]byte("difficulty too low"), RefusalLowDifficulty},
	{[]byte("high-hash"), RefusalLowDifficulty},
	{[]byte("high hash"), RefusalLowDifficulty},
	{[]byte("unauthorized"), RefusalUnauthorized},
	{[]byte("not authorized"), RefusalUnauthorized},
	{[]byte("worker mismatch"), RefusalUnauthorized},
	{[]byte("time-too-"), RefusalOther},
	{[]byte("time too "), RefusalOther},
	{[]byte("ntime"), RefusalOther},
	{[]byte("bad-version"), RefusalOther},
}

// maxReason is how much of a pool's message is looked at.
const maxReason = 160

// rejectReason begins the member that ckpool has beside the error.
var rejectReason = []byte(`"reject-reason"`)

// RefusalOf tells why a pool refused a share: from the value of the answer's
// error, which is a list, an object, a text or nothing, and where that says
// nothing from another member of the answer, which is line.
func RefusalOf(e, line []byte) Refusal {
	e = e[:min(len(e), maxReason)]
	if r, ok := refusalOfText(e); ok {
		return r
	}
	if r := RefusalOfCode(errorCode(e)); r != RefusalOther {
		return r
	}
	if at := bytes.Index(line, rejectReason); at >= 0 {
		reason := line[at+len(rejectReason):]
		if end := bytes.IndexByte(reason, ','); end >= 0 {
			reason = reason[:end]
		}
		r, _ := refusalOfText(reason[:min(len(reason), maxReason)])
		return r
	}
	return RefusalOther
}

// refusalOfText looks for known texts in at most maxReason bytes.
func refusalOfText(b []byte) (Refusal, bool) {
	var buf [maxReason]byte
	lower := buf[:copy(buf[:], b)]
	for i, c := range lower {
		if c >= 'A' && c <= 'Z' {
			lower[i] = c + 'a' - 'A'
		}
	}
	for i := range refusalTexts {
		if bytes.Contains(lower, refusalTexts[i].text) {
			return refusalTexts[i].meaning, true
		}
	}
	// "Job 'N' not found" has something in between.
	if at := bytes.Index(lower, jobWord); at >= 0 && bytes.Contains(lower[at:], notFound) {
		return RefusalStale, true
	}
	return RefusalOther, false
}

var (
	jobWord  = []byte("job")
	notFound = []byte("not found")
	codeName = []byte(`"code"`)
)

// errorCode is the code of an error: the first of a list, or the member of that
// name. It is 0 if there is none, also where a pool writes it as a text.
func errorCode(e []byte) int {
	e = bytes.TrimLeft(e, " \t")
	switch {
	case len(e) > 0 && e[0] == '[':
		e = e[1:]
	case len(e) > 0 && e[0] == '{':
		at := bytes.Index(e, codeName)
		if at < 0 {
			return 0
		}
		if e = bytes.TrimLeft(e[at+len(codeName):], " \t"); len(e) == 0 || e[0] != ':' {
			return 0
		}
		e = e[1:]
	}
	code, digits := 0, 0
	for _, c := range bytes.TrimLeft(e, " \t") {
		if c < '0' || c > '9' || digits == 4 {
			break
		}
		code, digits = code*10+int(c-'0'), digits+1
	}
	return code
}
