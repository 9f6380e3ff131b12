package testkit

import (
	"encoding/binary"
	"strings"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// AgentRegistrations returns one register message for each miner ID that an agent may
// use, which is 65536 messages. Each message has the given number of bytes.
func AgentRegistrations(each int) []byte {
	message := make([]byte, each)
	message[0], message[1] = stratum.AgentMagic, stratum.AgentRegister
	binary.LittleEndian.PutUint16(message[2:], uint16(len(message)))
	copy(message[6:], "agent\x00"+strings.Repeat("w", len(message)-13))
	var all []byte
	for id := range 1 << 16 {
		binary.LittleEndian.PutUint16(message[4:], uint16(id))
		all = append(all, message...)
	}
	return all
}
