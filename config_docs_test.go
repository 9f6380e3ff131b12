package main

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// The tests of this file compare everything that says which keys there are and what
// their defaults and ranges are: the fields of Config and StratumServerInfo with
// their comments, configKeys and poolKeys, docs/configuration.md and
// config.default.json.

// documentedKey is what a page or a comment says about a key.
type documentedKey struct {
	name   string
	value  any    // the default
	limits string // the range of a number, such as 0-600; "" if there is none
}

var numberRange = regexp.MustCompile(`\d+-\d+`)

// documentedKeys returns the keys in the order of their rows. prefix comes before
// each name.
func documentedKeys[T any](prefix string, keys []configKey[T]) []documentedKey {
	var defaults T
	setDefaults(&defaults, keys)
	documented := make([]documentedKey, len(keys))
	for i, k := range keys {
		documented[i] = documentedKey{prefix + k.name, reflect.ValueOf(defaults).FieldByName(k.name).Interface(), ""}
		if strings.HasPrefix(k.value.want, "a whole number") {
			documented[i].limits = numberRange.FindString(k.value.want)
		}
	}
	return documented
}

// defaultText returns a default as pages and comments write it. The empty string
// means that the default is explained in words.
func (k documentedKey) defaultText(t *testing.T) string {
	t.Helper()
	switch v := k.value.(type) {
	case int, uint8, bool:
		return fmt.Sprint(v)
	case string:
		return v
	case []string:
		return strings.Join(v, ", ")
	case *bool: // TLSVerify's
		return fmt.Sprint(v == nil || *v)
	case map[string]StratumServerInfo:
		return ""
	}
	t.Fatalf("%s has the type %T, which this test does not know", k.name, k.value)
	return ""
}

// TestEveryFieldHasAKey: configKeys and poolKeys have a row for each field, in
// the same order.
func TestEveryFieldHasAKey(t *testing.T) {
	names := func(typ reflect.Type) (names []string) {
		for i := range typ.NumField() {
			names = append(names, typ.Field(i).Name)
		}
		return names
	}
	rows := func(keys []documentedKey) (names []string) {
		for _, k := range keys {
			names = append(names, k.name)
		}
		return names
	}
	if fields, keys := names(reflect.TypeFor[Config]()), rows(documentedKeys("", configKeys)); !slices.Equal(fields, keys) {
		t.Errorf("Config has the fields %v, configKeys has rows for %v", fields, keys)
	}
	if fields, keys := names(reflect.TypeFor[StratumServerInfo]()), rows(documentedKeys("", poolKeys(nil))); !slices.Equal(fields, keys) {
		t.Errorf("StratumServerInfo has the fields %v, poolKeys has rows for %v", fields, keys)
	}
}

// TestFieldComments: the comment of each field gives the default and, for a
// number, the range.
func TestFieldComments(t *testing.T) {
	comments := make(map[string]string)
	for _, path := range []string{"config.go", "config_pools.go"} {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if structure, ok := n.(*ast.StructType); ok {
				for _, field := range structure.Fields.List {
					comments[field.Names[0].Name] = strings.Join(strings.Fields(field.Doc.Text()), " ")
				}
			}
			return true
		})
	}
	for _, k := range append(documentedKeys("", configKeys), documentedKeys("", poolKeys(nil))...) {
		comment := comments[k.name]
		if want := k.name + " "; !strings.HasPrefix(comment, want) {
			t.Errorf("the comment of %s is %q, which does not begin with the name", k.name, comment)
		}
		if want := "Default: " + k.defaultText(t); !strings.Contains(comment, want) {
			t.Errorf("the comment of %s is %q, which lacks %q", k.name, comment, want)
		}
		if !strings.Contains(comment, k.limits) {
			t.Errorf("the comment of %s is %q, which lacks the range %s", k.name, comment, k.limits)
		}
	}
}

// TestConfigurationPage: the table of docs/configuration.md has a row for each
// key, with its default and, for a number, its range.
func TestConfigurationPage(t *testing.T) {
	table := partOfPage(t, "docs/configuration.md", "| key | meaning | default |\n", "\n\n")
	rows := make(map[string][]string)
	for line := range strings.Lines(table) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		if len(cells) == 3 {
			rows[strings.Trim(cells[0], " `")] = cells
		}
	}
	for _, chain := range stratum.ChainNames() {
		if row := rows["ChainType"]; row != nil && !strings.Contains(row[1], "`"+chain+"`") {
			t.Errorf("docs/configuration.md does not name the ChainType %s", chain)
		}
	}
	keys := append(documentedKeys("", configKeys), documentedKeys("StratumServerMap.*.", poolKeys(nil))...)
	for _, k := range keys {
		row := rows[k.name]
		delete(rows, k.name)
		if row == nil {
			t.Errorf("docs/configuration.md has no row for %s", k.name)
			continue
		}
		if want := k.defaultText(t); want != "" {
			if list, ok := k.value.([]string); ok {
				text, err := json.Marshal(list)
				if err != nil {
					t.Fatal(err)
				}
				want = string(text)
			}
			if !strings.Contains(row[2], "`"+want+"`") {
				t.Errorf("docs/configuration.md says that the default of %s is %s, want `%s`", k.name, row[2], want)
			}
		}
		if !strings.Contains(row[1], k.limits) {
			t.Errorf("docs/configuration.md says of %s %q, which lacks the range %s", k.name, row[1], k.limits)
		}
	}
	for name := range rows {
		if name != "---" {
			t.Errorf("docs/configuration.md has a row for %s, which is not a key", name)
		}
	}
}

// TestDefaultFile: config.default.json has the keys that every user should see,
// which are those before CoinFile. TestGoodConfigs compares their values.
func TestDefaultFile(t *testing.T) {
	text, err := os.ReadFile("config.default.json")
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(strings.NewReader(string(text)))
	var keys []string
	if _, err := d.Token(); err != nil {
		t.Fatal(err)
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, fmt.Sprint(name))
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{}
	for _, k := range configKeys {
		if k.name == "CoinFile" {
			break
		}
		want = append(want, k.name)
	}
	if !slices.Equal(keys, want) {
		t.Errorf("config.default.json has the keys %v, want %v", keys, want)
	}
}
