package hashrate

import (
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"testing"
)

func TestParseDifficulty(t *testing.T) {
	for _, c := range []struct {
		value string
		want  float64 // 0 means unknown
	}{
		{"1", 1},
		{"4096", 4096},
		{"65536.0", 65536},
		{"2.5", 2.5},
		{"0.5", 0.5},
		{"0.0009765625", 1.0 / 1024},
		{"1e3", 1000},
		{"1E+3", 1000},
		{"2.5e-1", 0.25},
		{`"8192"`, 8192},
		{`" 8192 "`, 8192},
		{"8192", 8192},
		{" 16 ", 16},
		{"65000.00001", 65000},
		{"16777217", 16777216}, // four bytes have a precision of seven digits
		{"00000000", 0},
		{"1" + strings.Repeat("0", 18), 1e18},
		{"0." + strings.Repeat("0", 9) + "1", 0}, // 1e-10: less than half a hash
		{"0.000000001", 1e-9},
		{"123456789012345678901234567890e-20", 1234567890.123456789},
		{strings.Repeat("9", 18) + "." + strings.Repeat("9", 30), 1e18},
		{"1" + strings.Repeat("0", 40) + "e-40", 1},

		{"0", 0}, {"-0", 0}, {"0.0", 0}, {"-1", 0}, {"-4096", 0}, {`"-1"`, 0},
		{"1e400", 0}, {"1e-400", 0}, {"0e400", 0}, {"1e999999999999999999999", 0}, {"1e30", 0}, {"9.3e18", 0},
		{"NaN", 0}, {"nan", 0}, {"Infinity", 0}, {"-Infinity", 0}, {"inf", 0}, {`"NaN"`, 0},
		{"", 0}, {`""`, 0}, {`"`, 0}, {"null", 0}, {"true", 0}, {"[1]", 0}, {"{}", 0}, {`"hard"`, 0},
		{"0x10", 0}, {"0545415ab8418cbb", 0}, {"123abc", 0}, {"1_000", 0}, {"1,000", 0}, {"+1", 0}, {".5", 0}, {"5.", 0},
		{"1e", 0}, {"1e+", 0}, {"1e5.5", 0}, {"1 2", 0}, {"01", 0}, {"1.2.3", 0}, {"\x00", 0},
		{strings.Repeat("1", maxNumber+1), 0}, {"1." + strings.Repeat("0", 1<<20), 0},
	} {
		got := ParseDifficulty([]byte(c.value))
		if got != Difficulty(c.want) {
			t.Errorf("%.80s: %v, want %v", c.value, got, c.want)
		}
		if got.Known() != (c.want > 0) {
			t.Errorf("%.80s: counts as known: %t", c.value, got.Known())
		}
	}
}

func TestDifficultyIsWork(t *testing.T) {
	// Difficulty 4,096 takes 4096 * 2^32 = 17,592,186,044,416 hashes.
	if got := ParseDifficulty([]byte("4096")).Hashes(); got != 17592186044416 {
		t.Errorf("difficulty 4096 has %v hashes", got)
	}
	d := FromEthereumTarget([]byte("0x0112e0be826d694b2e62d01511f12a6061fbaec8bc02357593e70e52ba"))
	if got := d.In(UnitEthereum); math.Abs(got/4e9-1) > 1e-6 { // this is ethermine's 4 GH
		t.Errorf("the Ethereum target has difficulty %v", got)
	}
	if got := d.In(UnitBitcoin); math.Abs(got/(4e9/(1<<32))-1) > 1e-6 {
		t.Errorf("the Ethereum target has difficulty %v in NiceHash's unit", got)
	}
	if got := Unknown.Hashes(); got != 0 || Unknown.String() != "unknown" {
		t.Errorf("an unknown difficulty has %v hashes and is written %q", got, Unknown)
	}
	if got := Difficulty(0.125).String(); got != "0.125" {
		t.Errorf("0.125 is written %q", got)
	}
	for _, v := range []float32{-1, float32(math.NaN()), float32(math.Inf(1)), math.MaxFloat32} {
		if got := Restored(v); got.Known() {
			t.Errorf("%v in a state file is read as %v", v, got)
		}
	}
}

func TestTargets(t *testing.T) {
	one := "00000000ffff" + strings.Repeat("0", 52)
	for _, c := range []struct {
		target   string
		bitcoin  float64 // 0 means unknown
		ethereum float64 // in hashes
	}{
		{one, 1, 4295032833.000015},
		{`"` + one + `"`, 1, 4295032833.000015},
		{"0x" + one, 1, 4295032833.000015},
		{"0X" + strings.ToUpper(one), 1, 4295032833.000015},
		{"000000000000ffff" + strings.Repeat("0", 48), 65536, 281479271743489},
		{strings.TrimLeft(one, "0"), 1, 4295032833.000015},
		{"0x" + one[6:], 1, 4295032833.000015}, // the form that Claymore's miner expects
		{strings.Repeat("f", 64), 65535.0 / (1 << 48), 1},
		{"1" + strings.Repeat("0", 56), 65535.0 / (1 << 16), 1 << 32},
		{"00000001" + strings.Repeat("0", 56), 65535.0 / (1 << 16), 1 << 32},

		{strings.Repeat("0", 64), 0, 0}, {"0", 0, 0}, {"0x0", 0, 0}, {"0x", 0, 0}, {"", 0, 0}, {`""`, 0, 0},
		{"1" + strings.Repeat("0", 64), 0, 0}, {strings.Repeat("f", 65), 0, 0}, {strings.Repeat("f", 1<<20), 0, 0},
		{"1", 0, 0}, {"ffff", 0, 0}, // harder than any network's target
		{"-1", 0, 0}, {"xyz", 0, 0}, {"0xg", 0, 0}, {"ab cd", 0, 0}, {"null", 0, 0}, {"0x0x1", 0, 0},
	} {
		if got := FromTarget([]byte(c.target)); got != Difficulty(c.bitcoin) {
			t.Errorf("%.70s: %v, want %v", c.target, got, c.bitcoin)
		}
		if got := FromEthereumTarget([]byte(c.target)); got != Difficulty(c.ethereum/(1<<32)) {
			t.Errorf("%.70s on Ethereum: %v hashes, want %v", c.target, got.Hashes(), c.ethereum)
		}
	}
}

func FuzzParseDifficulty(f *testing.F) {
	for _, s := range []string{"1", "-0.5e3", "1e400", `"12"`, "00", "NaN", "123456789012345678901234567890.5e-7", "4.9e-324"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got := float64(ParseDifficulty(b))
		if got != 0 && (got < minDifficulty || got > maxDifficulty) {
			t.Fatalf("%q: %v is out of bounds", b, got)
		}
		var n json.Number
		if len(b) > maxNumber || json.Unmarshal(b, &n) != nil || len(b) == 0 || b[0] == '"' {
			return
		}
		want, err := strconv.ParseFloat(string(n), 64)
		switch {
		case err != nil || want < minDifficulty*(1-1e-6) || want > maxDifficulty*(1+1e-6):
			if got != 0 && (want < minDifficulty*(1-1e-6) || want > maxDifficulty*(1+1e-6)) {
				t.Fatalf("%q: got %v, although it is %v", b, got, want)
			}
		case want > minDifficulty*(1+1e-6) && want < maxDifficulty*(1-1e-6):
			if math.Abs(got/want-1) > 1.2e-7 {
				t.Fatalf("%q: %v, want %v", b, got, want)
			}
		}
	})
}

func FuzzTarget(f *testing.F) {
	for _, s := range []string{"0x1", strings.Repeat("f", 64), "00000000ffff" + strings.Repeat("0", 52), `"12"`, strings.Repeat("0", 63) + "1"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got := FromEthereumTarget(b)
		if got != 0 && (got < minDifficulty || got > maxDifficulty) {
			t.Fatalf("%q: %v is out of bounds", b, got)
		}
		if other := FromTarget(b); other != 0 && got != 0 && math.Abs(float64(other/got)-65535.0/65536) > 1e-6 {
			t.Fatalf("%q: %v on Ethereum, %v elsewhere", b, got, other)
		}
		target, ok := new(big.Int).SetString(strings.TrimPrefix(string(b), "0x"), 16)
		if !ok || got == 0 || target.Sign() <= 0 || strings.ContainsAny(string(b), "_+-") {
			return
		}
		hashes, _ := new(big.Float).Quo(new(big.Float).SetMantExp(big.NewFloat(1), 256), new(big.Float).SetInt(target)).Float64()
		if math.Abs(got.Hashes()/hashes-1) > 1.2e-7 {
			t.Fatalf("%q: %v hashes, want %v", b, got.Hashes(), hashes)
		}
	})
}

func TestParsersAllocateNothing(t *testing.T) {
	long := []byte("0." + strings.Repeat("0", 20) + "1234567890123456789012345678901234567890")
	target := []byte(`"0x` + strings.Repeat("0", 10) + strings.Repeat("a", 54) + `"`)
	bad := [][]byte{[]byte("1e400"), []byte("hard"), []byte("-1"), []byte("0x12"), []byte(strings.Repeat("9", 64))}
	refused := []byte(fmt.Sprintf(`[20,"%s",null]`, strings.Repeat("X", 300)))
	message := agentMessage(12, 1, 2, 3)
	if n := testing.AllocsPerRun(100, func() {
		ParseDifficulty([]byte("4096"))
		ParseDifficulty(long)
		FromTarget(target)
		FromEthereumTarget(target)
		for _, b := range bad {
			ParseDifficulty(b)
			FromTarget(b)
		}
		RefusalOf(refused, refused)
		ReadAgentDifficulty(message)
	}); n > 0 {
		t.Errorf("got %v allocations, want none", n)
	}
}
