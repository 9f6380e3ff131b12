package stratum

// The clean flag is the ninth parameter of mining.notify on bitcoin and decred. On
// ethereum it is the fourth parameter or a later one.
const (
	cleanParam    = 8
	cleanParamEth = 3
)

// SetClean returns a mining.notify line with its clean flag set to true. Some
// pools write the flag as a number, omit it, or put other parameters after it. A line
// whose clean flag cannot be found is returned unchanged.
func SetClean(chain Chain, job []byte) []byte {
	sc := ScanPoolLine(job)
	params := sc.Members[MemberParams]
	if params.End == 0 || job[params.Start] != '[' {
		return job
	}
	expected := cleanParam
	if chain == Ethereum {
		expected = cleanParamEth
	}
	n, last, flag := 0, span{}, span{}
	for i := spaceEnd(job, params.Start+1); i < params.End-1; n++ {
		end := valueEnd(job, i)
		if end < 0 {
			return job
		}
		last = span{i, end}
		if flag.End == 0 && isFlag(job[i:end]) && (n == expected || n > expected && chain == Ethereum) {
			flag = last
		}
		if i = spaceEnd(job, end); job[i] != ',' {
			n++
			break
		}
		i = spaceEnd(job, i+1)
	}
	switch text := string(job[last.Start:last.End]); {
	case flag.End > 0:
	case text == "false" || text == "true":
		flag = last
	case n == expected, chain == Ethereum && n == expected+1:
		return replaceSpan(job, span{last.End, last.End}, ",true")
	default:
		return job
	}
	if string(job[flag.Start:flag.End]) == "true" {
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
