package main

// cleanParam is where mining.notify has its clean flag: the ninth parameter of
// bitcoin's and decred's jobs. Ethereum pools have it after the third or later.
const (
	cleanParam    = 8
	cleanParamEth = 3
)

// setClean returns a mining.notify line with its clean flag true, whatever form
// it has: some pools write it as a number, leave it out, or have other
// parameters after it.
func setClean(chain chainType, job []byte) []byte {
	sc := scanPoolLine(job)
	params := sc.members[memberParams]
	if params.end == 0 || job[params.start] != '[' {
		return job
	}
	expected := cleanParam
	if chain == chainEthereum {
		expected = cleanParamEth
	}
	n, last, flag := 0, span{}, span{}
	for i := spaceEnd(job, params.start+1); i < params.end-1; n++ {
		end := valueEnd(job, i)
		if end < 0 {
			return job
		}
		last = span{i, end}
		if flag.end == 0 && isFlag(job[i:end]) && (n == expected || n > expected && chain == chainEthereum) {
			flag = last
		}
		if i = spaceEnd(job, end); job[i] != ',' {
			n++
			break
		}
		i = spaceEnd(job, i+1)
	}
	switch text := string(job[last.start:last.end]); {
	case flag.end > 0:
	case text == "false" || text == "true":
		flag = last
	case n == expected, chain == chainEthereum && n == expected+1:
		return replaceSpan(job, span{last.end, last.end}, ",true")
	default:
		return job
	}
	if string(job[flag.start:flag.end]) == "true" {
		return job
	}
	return replaceSpan(job, flag, "true")
}

// isFlag reports whether a parameter may stand for true or false.
func isFlag(raw []byte) bool {
	switch string(raw) {
	case "true", "false", "0", "1", "null", `"true"`, `"false"`:
		return true
	}
	return false
}

// replaceSpan returns a copy of line with other text in the place of a part.
func replaceSpan(line []byte, at span, text string) []byte {
	out := make([]byte, 0, len(line)+len(text))
	out = append(out, line[:at.start]...)
	out = append(out, text...)
	return append(out, line[at.end:]...)
}
