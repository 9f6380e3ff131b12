package stratum

import (
	"crypto/sha512"
	"encoding/hex"
	"strings"
)

// longKeyPrefix begins the keys of long job IDs.
const longKeyPrefix = "sha512:"

// longKey has room for the key of a long job ID. It is longer than every ID that is its
// own key.
type longKey [len(longKeyPrefix) + 2*sha512.Size]byte

// jobKey returns what a job ID without escapes is remembered by: the ID itself or, if it is
// longer than a renamed ID can be, its hash. room is used for the latter.
func jobKey(id []byte, room *longKey) []byte {
	if len(id) <= MaxJobID+2 {
		return id
	}
	return longJobKey(id, room)
}

func longJobKey(id []byte, room *longKey) []byte {
	sum := sha512.Sum512(id)
	return hex.AppendEncode(append(room[:0], longKeyPrefix...), sum[:])
}

// isJobKey reports whether jobKey may have returned a text. Builds before it ignore longer
// texts than IDs in runtime.json.
func isJobKey(text string) bool {
	return len(text) <= MaxJobID+2 || len(text) == len(longKey{}) && strings.HasPrefix(text, longKeyPrefix)
}
