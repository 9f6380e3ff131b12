package main

import "strings"

// maxComparedKey is the longest key for which a similar one is searched. Known
// keys are shorter, and a comparison costs the product of both lengths.
const maxComparedKey = 64

// unknownKeyHint suggests what an unknown key may have been meant to be: the
// most similar known key, or all of them if they are few.
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
	return ", all are in the table of keys in README.md"
}

// nearestKey returns the known key that a mistyped key is most similar to, or
// the empty string. Up to a third of the letters may differ; or one key may
// contain the other, if that has at least four letters.
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

// editDistance is the number of bytes to insert, drop or change to turn a into
// b.
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
