package stratumtest

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"strconv"
	"time"
)

// JobIDStyle says how a pool forms its job IDs.
type JobIDStyle int

const (
	// JobIDNamed joins the pool's name, a dash and a number. A Miner recognizes the pool
	// of a job by this name.
	JobIDNamed JobIDStyle = iota
	// JobIDCounting counts from 1, so that all pools use the same IDs.
	JobIDCounting
)

// poolJob holds the lines that announce a job and what is needed to check its shares.
// It is immutable.
type poolJob struct {
	seq   uint64 // number of the job at its pool, counted from 1
	id    string
	bits  int // a share needs this many zero bits
	clean bool
	work  *Work

	line, lineClean []byte // the notification with the job's own clean flag, and with true

	header, seed string // ethereum: 64 hex digits each
}

// notify returns the line to send. With forceClean, its clean flag is true even if the
// job is not clean.
func (j *poolJob) notify(forceClean bool) []byte {
	if forceClean {
		return j.lineClean
	}
	return j.line
}

// newBitcoinJob invents a job that a real miner could work on. An OP_RETURN output
// in the coinbase pads the line to about size bytes.
func newBitcoinJob(seq uint64, id string, zeroBits int, clean bool, size int) *poolJob {
	var random [64]byte
	rand.Read(random[:])
	w := &Work{
		ID:      id,
		Version: 0x20000000,
		NBits:   0x1d00ffff,
		NTime:   uint32(time.Now().Unix()),
		Clean:   clean,
	}
	copy(w.PrevHash[:28], random[:28]) // a previous block's hash ends in zeros
	for range int(random[40]) % 13 {
		var b [32]byte
		rand.Read(b[:])
		w.Branches = append(w.Branches, b)
	}
	w.Coinb1 = coinbaseStart(uint32(800000+seq), random[48:52])
	w.Coinb2 = coinbaseEnd(random[28:40], 0)

	j := &poolJob{seq: seq, id: id, bits: zeroBits, clean: clean, work: w}
	if missing := size - len(notifyLine(w, clean)); missing > 0 {
		w.Coinb2 = coinbaseEnd(random[28:40], max(1, missing/2-15))
	}
	j.line = notifyLine(w, clean)
	j.lineClean = notifyLine(w, true)
	return j
}

// coinbaseStart returns the transaction up to the 12 bytes of the two extranonces.
func coinbaseStart(height uint32, tag []byte) []byte {
	b := binary.LittleEndian.AppendUint32(nil, 1) // version
	b = append(b, 1)                              // one input
	b = append(b, make([]byte, 32)...)            // a coinbase spends no previous output
	b = append(b, 0xff, 0xff, 0xff, 0xff)
	b = append(b, byte(1+3+1+len(tag)+1+12)) // script length
	b = append(b, 3, byte(height), byte(height>>8), byte(height>>16))
	b = append(b, byte(len(tag)))
	b = append(b, tag...)
	return append(b, 12)
}

func coinbaseEnd(payTo []byte, padding int) []byte {
	b := []byte{0xff, 0xff, 0xff, 0xff} // sequence
	outputs := byte(1)
	if padding > 0 {
		outputs = 2
	}
	b = append(b, outputs)
	b = binary.LittleEndian.AppendUint64(b, 312500000)
	b = append(b, 25, 0x76, 0xa9, 20) // pay to public key hash
	var hash [20]byte
	copy(hash[:], payTo)
	b = append(b, hash[:]...)
	b = append(b, 0x88, 0xac)
	if padding > 0 {
		b = binary.LittleEndian.AppendUint64(b, 0)
		b = append(b, 0xfd)
		b = binary.LittleEndian.AppendUint16(b, uint16(4+padding))
		b = append(b, 0x6a, 0x4d) // OP_RETURN, OP_PUSHDATA2
		b = binary.LittleEndian.AppendUint16(b, uint16(padding))
		for i := range padding {
			b = append(b, byte(i))
		}
	}
	return append(b, 0, 0, 0, 0) // lock time
}

func notifyLine(w *Work, clean bool) []byte {
	var b []byte
	b = append(b, `{"id":null,"method":"mining.notify","params":["`...)
	b = append(b, w.ID...)
	b = append(b, `","`...)
	prev := swapWords(w.PrevHash)
	b = hex.AppendEncode(b, prev[:])
	b = append(b, `","`...)
	b = hex.AppendEncode(b, w.Coinb1)
	b = append(b, `","`...)
	b = hex.AppendEncode(b, w.Coinb2)
	b = append(b, `",[`...)
	for i := range w.Branches {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '"')
		b = hex.AppendEncode(b, w.Branches[i][:])
		b = append(b, '"')
	}
	b = append(b, `],"`...)
	b = appendHex32(b, w.Version)
	b = append(b, `","`...)
	b = appendHex32(b, w.NBits)
	b = append(b, `","`...)
	b = appendHex32(b, w.NTime)
	b = append(b, `",`...)
	b = strconv.AppendBool(b, clean)
	return append(b, "]}\n"...)
}

// newEthereumJob invents a header and a seed hash. Their proof of work is not
// checked, because ethash is not in the standard library.
func newEthereumJob(seq uint64, id string, zeroBits int, clean bool) *poolJob {
	var random [64]byte
	rand.Read(random[:])
	return &poolJob{
		seq: seq, id: id, bits: zeroBits, clean: clean,
		header: hex.EncodeToString(random[:32]),
		seed:   hex.EncodeToString(random[32:]),
	}
}

// ethereumLine returns the job's line in the form of an ethereum protocol.
func (j *poolJob) ethereumLine(p ethProtocol, forceClean bool) []byte {
	clean := strconv.FormatBool(j.clean || forceClean)
	target := "0x" + ethereumTarget(j.bits)
	switch p {
	case ethProxy:
		return []byte(`{"id":0,"jsonrpc":"2.0","result":["0x` + j.header + `","0x` + j.seed + `","` + target + `"]}` + "\n")
	case ethNiceHash:
		return []byte(`{"id":null,"method":"mining.notify","params":["` + j.id + `","` + j.seed + `","` + j.header + `",` + clean + "]}\n")
	default:
		return []byte(`{"id":null,"method":"mining.notify","params":["` + j.id + `","0x` + j.header + `","0x` + j.seed + `","` + target + `",` + clean + "]}\n")
	}
}

// ethereumTarget returns the largest 256-bit number with the given number of
// leading zero bits.
func ethereumTarget(zeroBits int) string {
	var t [32]byte
	for i := range 256 {
		if i >= zeroBits {
			t[i/8] |= 0x80 >> (i % 8)
		}
	}
	return hex.EncodeToString(t[:])
}
