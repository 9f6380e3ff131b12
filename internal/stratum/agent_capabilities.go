package stratum

import (
	"encoding/json"
	"slices"
)

const (
	agentCapabilities = `{"capabilities":["verrol","subres"]}`
	capSubmitAnswers  = "subres"
)

// poolCapabilitiesRequest asks a pool for answers to shares. sserver accepts it
// only in this form: as a list inside the list of parameters.
var poolCapabilitiesRequest = []byte(`["verrol","subres"]`)

// AppendCapabilities appends the answer to agent.get_capabilities, in sserver's
// form.
func AppendCapabilities(b []byte, id json.RawMessage) []byte {
	b = append(b, `{"id":`...)
	b = append(b, OrNull(id)...)
	return append(b, `,"result":`+agentCapabilities+"}\n"...)
}

// AppendPoolCapabilities appends the switcher's own agent.get_capabilities to b.
func AppendPoolCapabilities(b []byte, id uint32) []byte {
	return AppendRequest(b, OwnIDText(id), "agent.get_capabilities", poolCapabilitiesRequest)
}

// AsksForAnswers reports whether an agent.get_capabilities request asks for answers
// to shares. The capabilities are the parameters, or a list inside them.
func AsksForAnswers(r *Request) bool {
	for _, p := range r.ParamList() {
		if text, _ := JsonString(p); text == capSubmitAnswers || namesSubmitAnswers(p) {
			return true
		}
	}
	return false
}

func namesSubmitAnswers(list json.RawMessage) bool {
	var names []json.RawMessage
	return len(list) > 0 && list[0] == '[' && JSON.Unmarshal(list, &names) == nil &&
		slices.ContainsFunc(names, func(raw json.RawMessage) bool { text, _ := JsonString(raw); return text == capSubmitAnswers })
}

// HasSubmitAnswers reports whether a pool's answer to agent.get_capabilities says
// that the pool answers binary shares.
func HasSubmitAnswers(r *Response) bool {
	var result struct {
		Capabilities json.RawMessage `json:"capabilities"`
	}
	return len(r.Result) > 0 && r.Result[0] == '{' && JSON.Unmarshal(r.Result, &result) == nil && namesSubmitAnswers(result.Capabilities)
}
