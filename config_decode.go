package main

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/strictjson"
)

// The file is parsed into a tree that remembers line numbers. The tables
// configKeys and poolKeys convert the tree into a Config and check it. One run
// reports all mistakes, each with its key.

// configProblems collects the mistakes in a file. It keeps only the first one of
// each key, because further ones mostly follow from it.
type configProblems struct {
	errs []error
	keys []string
}

func (p *configProblems) add(key, problem string) {
	for _, known := range p.keys {
		if key == known || strings.HasPrefix(key, known+".") || strings.HasPrefix(key, known+"[") {
			return
		}
	}
	p.keys = append(p.keys, key)
	p.errs = append(p.errs, errors.New(key+" "+problem))
}

// value reports a string that is not allowed.
func (p *configProblems) value(key, value, want string) {
	p.add(key, "is "+strconv.Quote(strictjson.Shorten(value))+", must be "+want)
}

// address reports an address that is not allowed, and why.
func (p *configProblems) address(key, addr string, why error, want string) {
	p.add(key, fmt.Sprintf("is %q (%v), must be %s", strictjson.Shorten(addr), why, want))
}

// wrongType reports a value of the wrong type or out of range.
func (p *configProblems) wrongType(key string, v *strictjson.Node, want string) {
	p.add(key, "is "+v.Written()+", must be "+want)
}

// configKey is a key that an object of the configuration may have. T holds the
// object's values.
type configKey[T any] struct {
	name  string
	value keyValue[T]

	// check reports a value that cannot work although it has the right type and range.
	// It may look at other values too. It is nil if there is nothing to check.
	check func(of *T, key string, p *configProblems)
}

// keyValue has a key's default and the function that decodes its value.
type keyValue[T any] struct {
	setDefault func(*T)
	decode     func(dst *T, key string, v *strictjson.Node, p *configProblems)
	want       string // allowed values, as messages describe them
}

// setDefaults gives every key its default.
func setDefaults[T any](dst *T, keys []configKey[T]) {
	for _, k := range keys {
		k.value.setDefault(dst)
	}
}

// checkObject runs the checks of all keys. path is the key of the object itself,
// or empty for the whole file.
func checkObject[T any](of *T, keys []configKey[T], path string, p *configProblems) {
	for _, k := range keys {
		if k.check != nil {
			k.check(of, joinKey(path, k.name), p)
		}
	}
}

// decodeObject stores an object's values in dst and returns the keys that have
// a value. A null leaves dst unchanged.
func decodeObject[T any](dst *T, keys []configKey[T], path string, object *strictjson.Node, p *configProblems) (given map[string]bool) {
	lines := make(map[string]int)
	given = make(map[string]bool)
	for _, m := range object.Members {
		// Keys have always been case-insensitive.
		i := slices.IndexFunc(keys, func(k configKey[T]) bool { return strings.EqualFold(k.name, m.Key) })
		if i < 0 {
			known := make([]string, len(keys))
			for i, k := range keys {
				known[i] = k.name
			}
			p.add(joinKey(path, m.Key), fmt.Sprintf("(line %d, value %s) is not a known key%s", m.Line, m.Value.Written(), unknownKeyHint(m.Key, known)))
			continue
		}
		k := keys[i]
		key := joinKey(path, k.name)
		if first, ok := lines[k.name]; ok {
			p.add(key, fmt.Sprintf("is given twice, in lines %d and %d, must be given once", first, m.Line))
			continue
		}
		lines[k.name] = m.Line
		if m.Value.Kind != strictjson.Null {
			given[k.name] = true
			k.value.decode(dst, key, m.Value, p)
		}
	}
	return given
}

// textValue is a string.
func textValue[T any](field func(*T) *string, fallback, want string) keyValue[T] {
	return keyValue[T]{
		setDefault: func(dst *T) { *field(dst) = fallback },
		decode: func(dst *T, key string, v *strictjson.Node, p *configProblems) {
			if v.Kind != strictjson.String {
				p.wrongType(key, v, want)
				return
			}
			*field(dst) = v.Text
		},
		want: want,
	}
}

// boolValue is true or false.
func boolValue[T any](field func(*T) *bool, fallback bool) keyValue[T] {
	const want = "true or false"
	return keyValue[T]{
		setDefault: func(dst *T) { *field(dst) = fallback },
		decode: func(dst *T, key string, v *strictjson.Node, p *configProblems) {
			if v.Kind != strictjson.Bool {
				p.wrongType(key, v, want)
				return
			}
			*field(dst) = string(v.Raw) == "true"
		},
		want: want,
	}
}

// numberValue is a whole number from lowest to highest. The note follows that range
// in messages.
func numberValue[T any, N int | uint8](field func(*T) *N, fallback N, lowest, highest int, note string) keyValue[T] {
	return wholeNumber(field, fallback, lowest, highest, fmt.Sprintf("a whole number %d-%d%s", lowest, highest, note))
}

// anyNumberValue is a whole number whose range is left to the check.
func anyNumberValue[T any](field func(*T) *int, fallback int, want string) keyValue[T] {
	return wholeNumber(field, fallback, math.MinInt32, math.MaxInt32, want)
}

func wholeNumber[T any, N int | uint8](field func(*T) *N, fallback N, lowest, highest int, want string) keyValue[T] {
	return keyValue[T]{
		setDefault: func(dst *T) { *field(dst) = fallback },
		decode: func(dst *T, key string, v *strictjson.Node, p *configProblems) {
			n, err := strconv.Atoi(v.Text)
			if v.Kind != strictjson.Number || err != nil || n < lowest || n > highest {
				p.wrongType(key, v, want)
				return
			}
			*field(dst) = N(n)
		},
		want: want,
	}
}

// listValue is a list of strings. want describes the list, wantItem an item.
func listValue[T any](field func(*T) *[]string, fallback []string, want, wantItem string) keyValue[T] {
	return keyValue[T]{
		setDefault: func(dst *T) { *field(dst) = slices.Clone(fallback) },
		decode: func(dst *T, key string, v *strictjson.Node, p *configProblems) {
			if v.Kind != strictjson.Array {
				p.wrongType(key, v, want)
				return
			}
			items := make([]string, len(v.Items))
			for i, item := range v.Items {
				if item.Kind != strictjson.String {
					p.wrongType(fmt.Sprintf("%s[%d]", key, i), item, wantItem)
					continue
				}
				items[i] = item.Text
			}
			*field(dst) = items
		},
		want: want,
	}
}

// joinKey returns the full path of a key and quotes unusual keys.
func joinKey(path, key string) string {
	if key == "" || strings.ContainsAny(key, ".[] ") || strconv.Quote(key) != `"`+key+`"` {
		key = strconv.Quote(key)
	}
	if path == "" {
		return key
	}
	return path + "." + key
}
