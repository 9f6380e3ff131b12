package stratum

import "testing"

func TestSameID(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{`7`, `7`, true}, {`7`, `"7"`, true}, {`7`, `7.0`, true}, {`7`, `"7.00"`, true}, {`7`, `0.7e1`, true}, {`1000`, `1e3`, true}, {`1000`, `1E+3`, true},
		{`0`, `-0`, true}, {`0`, `0.0`, true}, {`1.50`, `1.5`, true}, {`-1`, `-1.0`, true}, {`2147400001`, `2.147400001e+09`, true},
		{`123456789012345678`, `123456789012345679`, false}, {`99999999999999999999999`, `99999999999999999999999`, true},
		{`99999999999999999999999`, `99999999999999999999998`, false}, {`7`, `8`, false}, {`7`, `-7`, false}, {`7`, `70`, false}, {`7`, `"x"`, false},
		{`"a"`, `a`, true}, {`"a/b"`, `"a\/b"`, true}, {`"é"`, `"\u00e9"`, true}, {`"a"`, `"b"`, false}, {`""`, `"`, false}, {`"1e99999999"`, `1`, false},
		{`[1,"2"]`, `[1, "2"]`, true}, {`{"a":1}`, `{ "a": 1 }`, true}, {`[1]`, `{"a":1}`, false}, {`[1]`, `1`, false}, {`true`, `"true"`, true},
		{`7`, `"007"`, true}, {`7`, `007`, true}, {`"007"`, `007`, true}, {`"007"`, `"7"`, true}, {`-7`, `"-007"`, true}, {`10`, `"010"`, true}, {`0`, `"000"`, true}, {`7`, `"07.0"`, true},
		{`7`, `" 7"`, true}, {`7`, `"7 "`, true}, {`7`, `"  007  "`, true}, {`7`, `"0x7"`, true}, {`31`, `"0X1F"`, true}, {`160`, `"0xa0"`, true}, {`2147400001`, `"0x7ffeb941"`, true},
		{`18446744073709551615`, `"0xffffffffffffffff"`, false}, {`7`, `0x7`, false}, {`7`, `"0x"`, false}, {`7`, `"0x-7"`, false}, {`7`, `"x7"`, false},
		{`7`, `"- 7"`, false}, {`7`, `"--7"`, false}, {`7`, `" "`, false}, {`7`, `"7 7"`, false}, {`7`, `"+7"`, false}, {`0`, `""`, false}, {`0`, `"00x0"`, false}, {`" a"`, `"a"`, false},
		{`7`, `[7]`, false}, {`"7"`, `[55]`, false}, {`1`, `true`, false}, {`0`, `false`, false}, {`7`, `{"id":7}`, false},
	} {
		if SameID([]byte(c.a), []byte(c.b)) != c.same || SameID([]byte(c.b), []byte(c.a)) != c.same {
			t.Errorf("%s and %s: same is not %v", c.a, c.b, c.same)
		}
	}
}

// Each id is given out once, and none is longer than 31 bits.
func TestOwnRequestsRunOut(t *testing.T) {
	o := NewOwnRequests()
	for want := uint32(FirstOwnID); want != LastOwnID+1; want++ {
		if id, ok := o.Issue(); id != want || !ok {
			t.Fatalf("got id %d, %v, want %d", id, ok, want)
		}
	}
	if id, ok := o.Issue(); ok {
		t.Errorf("got one more id, %d", id)
	}
}
