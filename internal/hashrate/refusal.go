package hashrate

import "bytes"

// Refusal is why a pool refused a share.
type Refusal uint8

const (
	RefusalStale         Refusal = iota // the job is over, or the pool does not know it
	RefusalDuplicate                    // the share was sent before
	RefusalLowDifficulty                // the hash is above the target
	RefusalUnauthorized                 // the pool does not know the worker
	RefusalOther
	Refusals
)

var refusalNames = [Refusals]string{"stale", "duplicate", "low_difficulty", "unauthorized", "other"}

// String returns the name that is used in metrics.
func (r Refusal) String() string { return refusalNames[r] }

// RefusalOfCode returns the reason that an error code stands for, such as the code
// in an agent's answer. 20 to 25 are Stratum's own codes. btcpool uses 36 for jobs
// that do not exist and 37 for jobs that are over (StratumStatus in its Stratum.h).
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

// refusalText is a part of a pool's message, in lower case, and the reason that it
// stands for.
type refusalText struct {
	text    []byte
	meaning Refusal
}

// refusalTexts are searched for in this order. A text has priority over the code,
// because many pools send only 20 or -1, and some use the codes wrongly.
//
// These are the projects and files that the texts come from:
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
	{[]byte("unknown worker"), RefusalUnauthorized}, // before the work
	{[]byte("unknown work"), RefusalStale},
	{[]byte("unknown job"), RefusalStale},
	{[]byte("invalid job"), RefusalStale},
	{[]byte("job expired"), RefusalStale},
	{[]byte("block expired"), RefusalStale},
	{[]byte("no such job"), RefusalStale},
	{[]byte("work not found"), RefusalStale},
	{[]byte("outdated"), RefusalStale},
	{[]byte("above target"), RefusalLowDifficulty},
	{[]byte("low diff"), RefusalLowDifficulty},
	{[]byte("low-diff"), RefusalLowDifficulty},
	{[]byte("difficulty too low"), RefusalLowDifficulty},
	{[]byte("high-hash"), RefusalLowDifficulty},
	{[]byte("high hash"), RefusalLowDifficulty},
	{[]byte("insufficient difficulty"), RefusalLowDifficulty},
	{[]byte("unauthorized"), RefusalUnauthorized},
	{[]byte("not authorized"), RefusalUnauthorized},
	{[]byte("worker mismatch"), RefusalUnauthorized},
	{[]byte("unauthenticated"), RefusalUnauthorized},
	{[]byte("worker not found"), RefusalUnauthorized},
	{[]byte("session expired"), RefusalUnauthorized},
	{[]byte("time-too-"), RefusalOther},
	{[]byte("time too "), RefusalOther},
	{[]byte("ntime"), RefusalOther},
	{[]byte("bad-version"), RefusalOther},
	{[]byte("expired"), RefusalStale}, // after those that name something else than the work
	{[]byte("too old"), RefusalStale},
}

// maxReason is how many bytes of a pool's message are searched.
const maxReason = 160

// rejectReason is the name of a member that ckpool sends in addition to the error.
var rejectReason = []byte(`"reject-reason"`)

// RefusalOf returns why a pool refused a share. e is the value of the answer's
// error: a list, an object, a string or nothing. If it gives no reason, another
// member of the answer, line, may give one.
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

// refusalOfText searches b, which has at most maxReason bytes, for known texts.
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
	// In "Job 'N' not found", the job ID separates the two parts.
	if at := bytes.Index(lower, jobWord); at >= 0 && bytes.Contains(lower[at:], notFound) {
		return RefusalStale, true
	}
	return RefusalOther, false
}

var (
	jobWord  = []byte("job")
	notFound = []byte("not found")
	codeName = []byte(`"code"`)
	quote    = []byte(`"`)
)

// errorCode returns the code of an error: its first element if it is a list, its member
// "code" if it is an object, or the error itself. Some pools send the code as a string.
// It returns 0 if there is none.
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
	e = bytes.TrimLeft(e, " \t")
	quoted := len(e) > 0 && e[0] == '"'
	if quoted {
		e = bytes.TrimLeft(e[1:], " \t")
	}
	code, digits := 0, 0
	for digits < len(e) && digits < 4 && e[digits] >= '0' && e[digits] <= '9' {
		code, digits = code*10+int(e[digits]-'0'), digits+1
	}
	if quoted && !bytes.HasPrefix(bytes.TrimLeft(e[digits:], " \t"), quote) {
		return 0 // a text that begins with a number
	}
	return code
}
