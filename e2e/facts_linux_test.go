//go:build linux && e2e

package e2e

import (
	"encoding/binary"
	"io"
	"math"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// These are facts that pages promise to operators and that protocols fix, as seen
// from outside.
const (
	runtimeFile            = "runtime.json"
	sizesFile              = "extranonce-sizes.json"
	upgradeContextVariable = "STRATUM_SWITCHER_PREFLIGHT"

	fileWait             = 3 * time.Second  // how long a file system may take to answer
	askWait              = 2 * time.Second  // how long a pool may take that is asked for its extranonce2 size
	difficultyGrace      = time.Second      // how long a pool may take to set the difficulty
	coinFileLook         = 2 * time.Second  // between two checks of the coin file
	zkComplaintEvery     = time.Minute      // between two lines of one kind about ZooKeeper
	poolHandshakeTimeout = 10 * time.Second // for one try
	switchRetryMost      = time.Minute      // the longest pause between two tries
	limitedFirst         = 10               // lines of one kind that are logged before a pause
	maxHandshakeLines    = 200              // how many lines a miner may send before it mines
	maxWorkers           = 4096             // how many workers a miner's connection may authorize besides the first
	maxRegistered        = 4 << 20          // bytes of an agent's register messages
	zkMaxServerID        = 255

	// The following are parts of BTCAgent's protocol.
	agentMagic      = 0x7f
	agentRegister   = 0x01
	agentAnswer     = 0x10
	agentSubmitMask = 0x12
	agentAnswerSize = 4 + 2 + 4
	statusAccept    = 1798084231
)

func agentMessage(kind byte, session uint16, body string) string {
	b := []byte{agentMagic, kind, 0, 0}
	b = binary.LittleEndian.AppendUint16(b, session)
	b = append(b, body...)
	binary.LittleEndian.PutUint16(b[2:], uint16(len(b)))
	return string(b)
}

// descriptorLimit is how many files this process may have open.
func descriptorLimit() int {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 1024
	}
	return int(min(limit.Cur, math.MaxInt32))
}

// says answers as another service would, once it was asked.
func says(text string) func(net.Conn) {
	return func(conn net.Conn) {
		conn.Read(make([]byte, 100))
		io.WriteString(conn, text)
		io.Copy(io.Discard, conn)
	}
}

// zkGreetingText is a ZooKeeper server's greeting.
const zkGreetingText = "\x00\x00\x00\x25" + "\x00\x00\x00\x00" + "\x00\x00\x0f\xa0" + "\x01\x00\x00\x00\x00\x00\x00\x01" +
	"\x00\x00\x00\x10" + "0123456789abcdef" + "\x00"
