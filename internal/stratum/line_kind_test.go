package stratum

import "testing"

// A line whose method a miner may take for one of those with rules gets its usual
// spelling. Nothing else of the line changes.
func TestWithUsualMethod(t *testing.T) {
	for method, want := range map[string]string{
		"set_extranonce": "mining.set_extranonce", "SET_extranonce": "mining.set_extranonce", "Mining.Set_Extranonce": "mining.set_extranonce",
		"mining.Notify": "mining.notify", "MINING.SET_DIFFICULTY": "mining.set_difficulty", "Mining.set_target": "mining.set_target",
		"mining.set_Version_mask": "mining.set_version_mask", "CLIENT.reconnect": "client.reconnect",
		"notify": "", "reconnect": "", "set_difficulty": "", "mining.notify2": "", "xmining.notify": "", "client.show_message": "", "mining.ping": "", "extranonce": "",
	} {
		line := []byte(`{"params":["a",1], "method" : "` + method + `","id":null}` + "\n")
		sc := ScanPoolLine(line)
		got := string(sc.WithUsualMethod(line))
		if want != "" {
			want = `{"params":["a",1], "method" : "` + want + `","id":null}` + "\n"
		}
		if got != want || want != "" && PoolLineKind([]byte(got)) == KindOther {
			t.Errorf("%s: got %q", method, got)
		}
	}
}
