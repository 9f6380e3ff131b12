package main

import "strings"

// Keys that are longer than this are compared with none: the known ones are shorter,
// and a comparison costs the product of both lengths.
const maxComparedKey = 64

// unknownKeyHint says what helps with a key that is none of the known ones: the
// one that was probably meant, or all of them if they are few.
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

// nearestKey returns the known key that a mistyped one probably stands for, empty
// if none is near: a third of its letters may differ, or it lacks a part of a
// known one, at least four letters long, or has one too many.
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

// editDistance counts the bytes to insert, drop or change on the way from a to b.
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
