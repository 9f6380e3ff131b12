package main

import "strings"

// maxComparedKey is the length of the longest key for which a similar one is
// searched. Known keys are shorter, and a comparison costs the product of both
// lengths.
const maxComparedKey = 64

// unknownKeyHint suggests the known key that an unknown one was probably meant to
// be, or lists all known keys if they are few.
func unknownKeyHint(key string, known []string) string {
	if strings.HasPrefix(key, "_") || strings.HasPrefix(key, "//") || strings.HasPrefix(key, "#") {
		return ", and there are no comments"
	}
	if meant := nearestKey(key, known); meant != "" {
		return ": did you mean " + meant + "?"
	}
	const few = 10
	if len(known) <= few {
		return ", must be one of " + strings.Join(known, ", ")
	}
	return "; all keys are listed in docs/configuration.md"
}

// nearestKey returns the known key that is most similar to a mistyped one, or the
// empty string if there is none. In similar keys up to a third of the letters
// differ, or one key contains the other and that one has at least four letters.
func nearestKey(key string, known []string) (nearest string) {
	if len(key) > maxComparedKey {
		return ""
	}
	lower := strings.ToLower(key)
	least := len(lower)/3 + 1
	for _, k := range known {
		if d := editDistance(lower, strings.ToLower(k)); d < least {
			nearest, least = k, d
		}
	}
	if nearest != "" || len(lower) < 4 {
		return nearest
	}
	for _, k := range known {
		if other := strings.ToLower(k); strings.Contains(other, lower) || len(other) >= 4 && strings.Contains(lower, other) {
			return k
		}
	}
	return ""
}

// editDistance returns how many bytes have to be inserted, removed or changed to
// turn a into b.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
