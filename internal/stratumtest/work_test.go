package stratumtest

import (
	"encoding/hex"
	"testing"
)

const genesisCoinbase = "01000000010000000000000000000000000000000000000000000000000000000000000000ffffffff4d" +
	"04ffff001d0104455468652054696d65732030332f4a616e2f32303039204368616e63656c6c6f72206f6e206272696e6b206f66207365636f6e64206261696c6f757420666f722062616e6b73" +
	"ffffffff0100f2052a0100000043" +
	"4104678afdb0fe5548271967f1a67130b7105cd6a828e03909a67962e0ea1f61deb649f6bc3f4cef38c4f35504e51ec112de5c384df7ba0b8d578a4c702b6bf11d5fac00000000"

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func shown(hash [32]byte) string { return reverseHex(hex.EncodeToString(hash[:])) }

func TestGenesisHeader(t *testing.T) {
	var header [80]byte
	copy(header[:], unhex(t, "01000000"+
		"0000000000000000000000000000000000000000000000000000000000000000"+
		"3ba3edfd7a7b12b27ac72c3e67768f617fc81bc3888a51323a9fb8aa4b1e5e4a"+
		"29ab5f49ffff001d1dac2b7c"))
	hash := HashHeader(&header)
	if got := shown(hash); got != "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f" {
		t.Errorf("the genesis block's hash is %s", got)
	}
	if got := ZeroBits(hash); got != 43 {
		t.Errorf("the genesis block's hash has %d zero bits, want 43", got)
	}
}

// This test treats the genesis block as a share. Some bytes of its coinbase stand in for
// the extranonces.
func TestGenesisAsShare(t *testing.T) {
	coinbase := unhex(t, genesisCoinbase)
	w := &Work{Coinb1: coinbase[:60], Coinb2: coinbase[72:], Version: 1, NBits: 0x1d00ffff}
	header := w.Header(coinbase[60:64], coinbase[64:72], w.Version, 0x495fab29, 0x7c2bac1d)
	if got := shown(HashHeader(&header)); got != "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f" {
		t.Errorf("the genesis block's hash is %s", got)
	}
}

// The example in Slush's description of Stratum is a job of 2012 and a share for it that
// met difficulty 1.
func TestSlushExample(t *testing.T) {
	w, err := ParseNotify([]byte(`["bf","4d16b6f85af6e2198f44ae2a6de67f78487ae5611b77c6c0440b921e00000000",` +
		`"01000000010000000000000000000000000000000000000000000000000000000000000000ffffffff20020862062f503253482f04b8864e5008",` +
		`"072f736c7573682f000000000100f2052a010000001976a914d23fcdf86f7e756a64a7a9688ef9903327048ed988ac00000000",` +
		`[],"00000002","1c2ac4af","504e86b9",false]`))
	if err != nil {
		t.Fatal(err)
	}
	header := w.Header(unhex(t, "08000002"), unhex(t, "00000001"), w.Version, 0x504e86ed, 0xb2957c02)
	hash := HashHeader(&header)
	t.Logf("hash %s", shown(hash))
	if ZeroBits(hash) < 32 {
		t.Errorf("hash %s does not meet difficulty 1", shown(hash))
	}
}

func TestDifficulty(t *testing.T) {
	for zeroBits := range 64 {
		if got := BitsOfDifficulty(DifficultyOfBits(zeroBits)); got != zeroBits {
			t.Errorf("%d bits are difficulty %g, which converts back to %d bits", zeroBits, DifficultyOfBits(zeroBits), got)
		}
	}
	if BitsOfDifficulty(1) != 32 || BitsOfDifficulty(1.5) != 33 {
		t.Error("difficulty 1 is not 32 bits, or difficulty 1.5 is not 33 bits")
	}
}

func TestRollVersion(t *testing.T) {
	if got := RollVersion(0x20000000, 0x1fffe000, 0xffffffff); got != 0x3fffe000 {
		t.Errorf("got version %08x, want 3fffe000", got)
	}
	if got := RollVersion(0x3fffe001, 0x1fffe000, 0); got != 0x20000001 {
		t.Errorf("got version %08x, want 20000001", got)
	}
}

func TestJobRoundTrip(t *testing.T) {
	for _, size := range []int{0, 1400, 4096} {
		j := newBitcoinJob(7, "a-7", 4, false, size)
		w, err := ParseNotify(paramsOf(t, j.line))
		if err != nil {
			t.Fatal(err)
		}
		if w.PrevHash != j.work.PrevHash || len(w.Branches) != len(j.work.Branches) || w.NTime != j.work.NTime || w.Clean {
			t.Errorf("the decoded job differs from the original: %s", j.line)
		}
		if d := len(j.line) - size; size == 4096 && (d < -8 || d > 8) {
			t.Errorf("the job has %d bytes, want about %d", len(j.line), size)
		}
	}
}
