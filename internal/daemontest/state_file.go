package daemontest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"maps"
)

// StateFile returns the content of a runtime.json as the daemon writes it. The file has the
// members, a line for each session, and at the end a spare copy of the essential members.
// Each part ends with its checksum. A test of package main checks that the daemon reads
// the file.
func StateFile(members map[string]any, sessions []any) ([]byte, error) {
	members = maps.Clone(members)
	members["SessionDatas"] = []any{}
	frame, err := json.Marshal(members)
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"Wanted", "Switched", "Monitor", "Descriptors"} {
		delete(members, name)
	}
	members["SessionDatas"] = nil
	spare, err := json.Marshal(members)
	if err != nil {
		return nil, err
	}
	lines := make([][]byte, len(sessions))
	for i, s := range sessions {
		line, err := json.Marshal(s)
		if err != nil {
			return nil, err
		}
		lines[i] = summed(line)
	}
	frame = summed(frame)
	file := append(frame[:len(frame)-1], ",\n\"Spare\":"...)
	file = append(append(file, summed(spare)...), '}')
	if len(lines) == 0 {
		return file, nil
	}
	all := append([]byte("[\n"), bytes.Join(lines, []byte(",\n"))...)
	return bytes.Replace(file, []byte(`"SessionDatas":[]`), append([]byte(`"SessionDatas":`), append(all, "\n]"...)...), 1), nil
}

// summed appends the checksum of an object as its last member.
func summed(object []byte) []byte {
	sum := crc32.Checksum(object, crc32.MakeTable(crc32.Castagnoli))
	return fmt.Appendf(object[:len(object)-1], `,"Sum":"%08x"}`, sum)
}
