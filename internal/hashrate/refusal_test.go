package hashrate

import (
	"strings"
	"testing"
)

func TestRefusalOf(t *testing.T) {
	for _, c := range []struct {
		e    string // the answer's error
		line string // the rest of the line, if it says more
		want Refusal
	}{
		// Stratum's own:
		{`[21,"Job not found",null]`, "", RefusalStale},
		{`[22,"Duplicate share",null]`, "", RefusalDuplicate},
		{`[23,"Low difficulty share",null]`, "", RefusalLowDifficulty},
		{`[24,"Unauthorized worker",null]`, "", RefusalUnauthorized},
		{`[25,"Not subscribed",null]`, "", RefusalOther},
		{`[20,"Other/Unknown",null]`, "", RefusalOther},
		{`[21,"",null]`, "", RefusalStale},
		{`[ 22 , null, null ]`, "", RefusalDuplicate},
		{`{"code":23,"message":"no"}`, "", RefusalLowDifficulty},
		{`{"message":"no","code": 24}`, "", RefusalUnauthorized},
		{`{"code":-1,"message":"Job not found"}`, "", RefusalStale},
		// btcpool:
		{`[21,"Job not found (=stale)",null]`, "", RefusalStale},
		{`[36,"x",null]`, "", RefusalStale},
		{`[37,"Stale share",null]`, "", RefusalStale},
		{`[31,"Time too old",null]`, "", RefusalOther},
		{`[33,"Invalid version mask",null]`, "", RefusalOther},
		// datum_gateway:
		{`[20,"unknown-work",null]`, "", RefusalStale},
		{`[21,"stale-prevblk",null]`, "", RefusalStale},
		{`[21,"time-too-new",null]`, "", RefusalOther},
		{`[22,"duplicate",null]`, "", RefusalDuplicate},
		{`[23,"high-hash",null]`, "", RefusalLowDifficulty},
		{`[23,"H-not-zero",null]`, "", RefusalLowDifficulty},
		{`[23,"bad-version",null]`, "", RefusalOther},
		// ckpool:
		{`null`, `{"reject-reason":"Above target","result":false,"error":null,"id":4}`, RefusalLowDifficulty},
		{``, `{"id":4,"result":false,"reject-reason": "Invalid JobID"}`, RefusalStale},
		{`null`, `{"result":false,"reject-reason":"Duplicate"}`, RefusalDuplicate},
		{`null`, `{"result":false,"reject-reason":"Worker mismatch"}`, RefusalUnauthorized},
		{`null`, `{"result":false,"reject-reason":"Ntime out of range","x":"stale"}`, RefusalOther},
		{`null`, `{"result":false,"reject-reason"`, RefusalOther},
		// Others:
		{`[-3,"Job 'a1' not found",null]`, "", RefusalStale},
		{`[20,"Share is above target",null]`, "", RefusalLowDifficulty},
		{`[20,"Worker is not authorized",null]`, "", RefusalUnauthorized},
		{`[23,"low difficulty share of 12.5"]`, "", RefusalLowDifficulty},
		{`[20,"Difficulty too low",null]`, "", RefusalLowDifficulty},
		{`{"code":22,"message":"Duplicate share"}`, "", RefusalDuplicate},
		{`{"code":23,"message":"Invalid share"}`, "", RefusalLowDifficulty},
		{`"STALE"`, "", RefusalStale},
		{`"Invalid job id"`, "", RefusalStale},
		{`{"code":-1,"message":"Method not found"}`, "", RefusalOther},
		// The code as a text:
		{`"21"`, "", RefusalStale},
		{`["22",null]`, "", RefusalDuplicate},
		{`{"code":"23","message":"no"}`, "", RefusalLowDifficulty},
		{`{"message":"no","code" : " 24 "}`, "", RefusalUnauthorized},
		{`{"code":21,"message":null}`, "", RefusalStale},
		// Ethereum's pools, which have no codes of their own for shares:
		{`{"code":-2,"message":"Work not found"}`, "", RefusalStale},
		{`{"code":-2,"message":"Share is too old"}`, "", RefusalStale},
		{`{"code":-2,"message":"work expired"}`, "", RefusalStale},
		{`"Outdated share"`, "", RefusalStale},
		{`{"code":-2}`, "", RefusalOther},
		{`-2`, "", RefusalOther},
		{`[20,"no such job"]`, "", RefusalStale},
		{`[20,"Session expired"]`, "", RefusalUnauthorized},
		{`[20,"Time too old"]`, "", RefusalOther},
		{`[20,"ntime expired"]`, "", RefusalOther},
		{`[20,"Worker not found"]`, "", RefusalUnauthorized},
		{`[20,"Unknown worker"]`, "", RefusalUnauthorized},
		{`"Unauthenticated"`, "", RefusalUnauthorized},
		{`[20,"Insufficient difficulty"]`, "", RefusalLowDifficulty},
		// These say nothing:
		{``, ``, RefusalOther},
		{`null`, `{"id":1,"result":false,"error":null}`, RefusalOther},
		{`[]`, "", RefusalOther}, {`{}`, "", RefusalOther}, {`[`, "", RefusalOther}, {`["21x"]`, "", RefusalOther}, {`["21`, "", RefusalOther}, {`{"code":"`, "", RefusalOther}, {`""`, "", RefusalOther}, {`"2100"`, "", RefusalOther}, {`"21st try"`, "", RefusalOther},
		{`{"code"`, "", RefusalOther}, {`{"code":`, "", RefusalOther}, {`[21474836480021,"x"]`, "", RefusalOther},
		{strings.Repeat("[", 1<<20), "", RefusalOther}, {`[20,"` + strings.Repeat("x", 1<<20) + `stale"]`, "", RefusalOther},
	} {
		if got := RefusalOf([]byte(c.e), []byte(c.line)); got != c.want {
			t.Errorf("%.80s %.80s: got %s, want %s", c.e, c.line, got, c.want)
		}
	}
}

func TestRefusalNames(t *testing.T) {
	seen := map[string]bool{}
	for r := range Refusals {
		if name := r.String(); name == "" || seen[name] {
			t.Errorf("refusal %d has the name %q", r, name)
		} else {
			seen[name] = true
		}
	}
	for code, want := range map[int]Refusal{21: RefusalStale, 22: RefusalDuplicate, 23: RefusalLowDifficulty, 24: RefusalUnauthorized, 2147483647: RefusalOther, 0: RefusalOther} {
		if got := RefusalOfCode(code); got != want {
			t.Errorf("code %d: got %s, want %s", code, got, want)
		}
	}
}

func FuzzRefusalOf(f *testing.F) {
	f.Add([]byte(`[21,"x"]`), []byte(`{"reject-reason":"Stale"}`))
	f.Add([]byte(`{"code":22}`), []byte(`"reject-reason"`))
	f.Fuzz(func(t *testing.T, e, line []byte) {
		if r := RefusalOf(e, line); r >= Refusals {
			t.Fatalf("%q %q: got the impossible refusal %d", e, line, r)
		}
	})
}
