package stratumtest

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"math/bits"
	"strconv"
)

// Work is a decoded bitcoin job.
type Work struct {
	ID       string
	PrevHash [32]byte // in header order
	Coinb1   []byte
	Coinb2   []byte
	Branches [][32]byte
	Version  uint32
	NBits    uint32
	NTime    uint32
	Clean    bool
}

// ParseNotify decodes the parameters of a bitcoin mining.notify.
func ParseNotify(params []byte) (*Work, error) {
	var raw []json.RawMessage
	if err := json.Unmarshal(params, &raw); err != nil {
		return nil, fmt.Errorf("notify parameters: %w", err)
	}
	if len(raw) != 9 {
		return nil, fmt.Errorf("notify has %d parameters, not 9", len(raw))
	}
	var text [8]string
	for _, i := range []int{0, 1, 2, 3, 5, 6, 7} {
		if err := json.Unmarshal(raw[i], &text[i]); err != nil {
			return nil, fmt.Errorf("notify parameter %d: %w", i, err)
		}
	}
	var branches []string
	if err := json.Unmarshal(raw[4], &branches); err != nil {
		return nil, fmt.Errorf("notify merkle branches: %w", err)
	}
	w := &Work{ID: text[0]}
	if err := json.Unmarshal(raw[8], &w.Clean); err != nil {
		return nil, fmt.Errorf("notify clean flag: %w", err)
	}
	prev, err := hash32(text[1])
	if err != nil {
		return nil, fmt.Errorf("notify previous hash: %w", err)
	}
	w.PrevHash = swapWords(prev)
	if w.Coinb1, err = hex.DecodeString(text[2]); err != nil {
		return nil, fmt.Errorf("notify coinb1: %w", err)
	}
	if w.Coinb2, err = hex.DecodeString(text[3]); err != nil {
		return nil, fmt.Errorf("notify coinb2: %w", err)
	}
	for i, s := range branches {
		b, err := hash32(s)
		if err != nil {
			return nil, fmt.Errorf("notify merkle branch %d: %w", i, err)
		}
		w.Branches = append(w.Branches, b)
	}
	for i, to := range []*uint32{&w.Version, &w.NBits, &w.NTime} {
		if *to, err = parseHex32(text[5+i]); err != nil {
			return nil, fmt.Errorf("notify parameter %d: %w", 5+i, err)
		}
	}
	return w, nil
}

// Header returns the 80-byte block header that a miner hashes.
func (w *Work) Header(extranonce1, extranonce2 []byte, version, ntime, nonce uint32) [80]byte {
	h := sha256.New()
	h.Write(w.Coinb1)
	h.Write(extranonce1)
	h.Write(extranonce2)
	h.Write(w.Coinb2)
	var root [32]byte
	h.Sum(root[:0])
	root = sha256.Sum256(root[:])
	var pair [64]byte
	for i := range w.Branches {
		copy(pair[:32], root[:])
		copy(pair[32:], w.Branches[i][:])
		root = doubleSHA(pair[:])
	}
	var header [80]byte
	binary.LittleEndian.PutUint32(header[0:], version)
	copy(header[4:], w.PrevHash[:])
	copy(header[36:], root[:])
	binary.LittleEndian.PutUint32(header[68:], ntime)
	binary.LittleEndian.PutUint32(header[72:], w.NBits)
	binary.LittleEndian.PutUint32(header[76:], nonce)
	return header
}

// HashHeader returns the double SHA-256 of a header, least significant byte first.
// Block explorers show the bytes in reverse.
func HashHeader(header *[80]byte) [32]byte { return doubleSHA(header[:]) }

// ZeroBits returns the number of leading zero bits of a hash, from its most significant
// byte on.
func ZeroBits(hash [32]byte) int {
	n := 0
	for i := 31; i >= 0; i-- {
		if hash[i] != 0 {
			return n + bits.LeadingZeros8(hash[i])
		}
		n += 8
	}
	return n
}

// RollVersion puts the miner's version bits into a job's version (BIP 310).
func RollVersion(version, mask, versionBits uint32) uint32 {
	return version&^mask | versionBits&mask
}

// BitsOfDifficulty returns the number of leading zero bits with which a hash always meets
// a difficulty. Difficulty 1 corresponds to 32 bits.
func BitsOfDifficulty(difficulty float64) int {
	if difficulty <= 0 {
		return 0
	}
	return max(0, 32+int(math.Ceil(math.Log2(difficulty))))
}

// DifficultyOfBits is the inverse of BitsOfDifficulty.
func DifficultyOfBits(zeroBits int) float64 { return math.Ldexp(1, zeroBits-32) }

// maxTries bounds the search for a nonce, because a test could use a real difficulty by
// mistake.
const maxTries = 1 << 23

// mine tries nonces from start on until a hash has enough zero bits.
func mine(header *[80]byte, zeroBits int, start uint32) (nonce uint32, found bool) {
	nonce = start
	for range maxTries {
		binary.LittleEndian.PutUint32(header[76:], nonce)
		if ZeroBits(HashHeader(header)) >= zeroBits {
			return nonce, true
		}
		nonce++
	}
	return nonce, false
}

func doubleSHA(b []byte) [32]byte {
	first := sha256.Sum256(b)
	return sha256.Sum256(first[:])
}

// swapWords reverses the bytes of each 4-byte word, which is how Stratum encodes the
// previous block's hash.
func swapWords(in [32]byte) (out [32]byte) {
	for i := 0; i < 32; i += 4 {
		out[i], out[i+1], out[i+2], out[i+3] = in[i+3], in[i+2], in[i+1], in[i]
	}
	return out
}

func hash32(s string) (h [32]byte, err error) {
	if len(s) != 64 {
		return h, fmt.Errorf("%d hex digits, not 64", len(s))
	}
	_, err = hex.Decode(h[:], []byte(s))
	return h, err
}

func parseHex32(s string) (uint32, error) {
	if len(s) != 8 {
		return 0, fmt.Errorf("%q is not 8 hex digits", s)
	}
	n, err := strconv.ParseUint(s, 16, 32)
	return uint32(n), err
}

const hexDigits = "0123456789abcdef"

func appendHex32(b []byte, n uint32) []byte {
	for shift := 28; shift >= 0; shift -= 4 {
		b = append(b, hexDigits[n>>shift&15])
	}
	return b
}

func appendHex64(b []byte, n uint64) []byte {
	return appendHex32(appendHex32(b, uint32(n>>32)), uint32(n))
}
