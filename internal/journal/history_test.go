package journal

import "testing"

func TestHistoryIsBounded(t *testing.T) {
	var h History
	for i := range 3 * HistoryKept {
		h.Add(Sample{At: int64(i) * 10, Span: 10, Coins: map[string]Point{"btc": {Sessions: i, Submitted: 5}}})
	}
	series := h.Series()
	if len(series.Times) != HistoryKept || series.Times[0] != 20*HistoryKept {
		t.Errorf("got %d samples from %v", len(series.Times), series.Times[:1])
	}
	if c := series.Coins["btc"]; c.Shares[7] != 30 || c.Sessions[0] != 2*HistoryKept {
		t.Errorf("got shares %v, sessions %v", c.Shares[7], c.Sessions[0])
	}
}
