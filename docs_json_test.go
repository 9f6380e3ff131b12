package main

import (
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/eventfile"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/journal"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// jsonFields returns the names of the fields of a reply and of the objects in it that are
// of the given types.
func jsonFields(t reflect.Type, with ...any) []string {
	var names []string
	for i := range t.NumField() {
		f := t.Field(i)
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" {
			names = append(names, name)
		}
	}
	for _, v := range with {
		names = append(names, jsonFields(reflect.TypeOf(v))...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// TestPageOfJSONFields: the table below "Fields" in docs/monitoring.md has the fields of
// each reply and no others.
func TestPageOfJSONFields(t *testing.T) {
	table := partOfPage(t, "docs/monitoring.md", "\n### Fields\n", "\n## ")
	name := regexp.MustCompile("`([a-z0-9_]+)`")
	for row, reply := range map[string][]string{
		"`/api/status`":             jsonFields(reflect.TypeFor[statusReply]()),
		"`coin_source`":             jsonFields(reflect.TypeFor[sourceReply]()),
		"a coin of `coins`":         jsonFields(reflect.TypeFor[coinStatus]()),
		"an address of `pools`":     jsonFields(reflect.TypeFor[addressReply](), ipReply{}),
		"`tls`":                     jsonFields(reflect.TypeFor[tlsReply](), handshakeReply{}, certificateReply{}, tunnelReply{}),
		"a row of `/api/accounts`":  jsonFields(reflect.TypeFor[accountRow]()),
		"`/api/miners`":             jsonFields(reflect.TypeFor[minersReply]()),
		"`/api/search`":             jsonFields(reflect.TypeFor[searchReply]()),
		"a miner":                   jsonFields(reflect.TypeFor[shownMiner]()),
		"an event of `/api/events`": jsonFields(reflect.TypeFor[eventReply]()),
		"`/api/history`":            jsonFields(reflect.TypeFor[historyReply](), journal.Series{}, journal.Chart{}, dayChart{}),
	} {
		_, text, found := strings.Cut(table, "\n| "+row+" | ")
		if !found {
			t.Errorf("docs/monitoring.md has no row for %s", row)
			continue
		}
		text, _, _ = strings.Cut(text, "\n")
		var told []string
		for _, m := range name.FindAllStringSubmatch(text, -1) {
			told = append(told, m[1])
		}
		slices.Sort(told)
		if told = slices.Compact(told); !slices.Equal(told, reply) {
			t.Errorf("docs/monitoring.md has for %s the fields\n%q, want\n%q", row, told, reply)
		}
	}
}

// TestPageOfEvents: docs/events.md has every kind of event and every field.
func TestPageOfEvents(t *testing.T) {
	page := testkit.ReadFile(t, "docs/events.md")
	kinds := regexp.MustCompile(`(?m)^\tKind\w+ +Kind = "(\w+)"`).FindAllStringSubmatch(testkit.ReadFile(t, "internal/eventfile/event.go"), -1)
	if len(kinds) < 8 {
		t.Fatalf("only %d kinds of events were found", len(kinds))
	}
	for _, kind := range kinds {
		if !strings.Contains(page, "\n| `"+kind[1]+"` |") {
			t.Errorf("docs/events.md has no row for the event %s", kind[1])
		}
	}
	for _, name := range jsonFields(reflect.TypeFor[eventfile.Event](), eventfile.Cost{}, eventfile.Totals{}) {
		if !strings.Contains(page, "`"+name+"`") && !strings.Contains(page, "`cost."+name+"`") {
			t.Errorf("docs/events.md does not explain the field %s", name)
		}
	}
}
