package main

import (
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// Texts of the page are legible on their background, in light and dark colours:
// they have the contrast that WCAG 2 requires (AA).
func TestPageContrast(t *testing.T) {
	schemes := regexp.MustCompile(`(?s):root \{(.*?)\}`).FindAllStringSubmatch(pageStyle, -1)
	if len(schemes) != 2 {
		t.Fatalf("there are %d schemes of colours", len(schemes))
	}
	for i, name := range []string{"light", "dark"} {
		colours := make(map[string]float64)
		for _, m := range regexp.MustCompile(`--([\w-]+): #([0-9a-f]+);`).FindAllStringSubmatch(schemes[i][1], -1) {
			colours[m[1]] = luminance(t, m[2])
		}
		for _, pair := range []string{
			"text bg", "text card", "text head", "text note-bg", "dim bg", "dim card", "dim head", "accent bg", "accent card", "accent head", "card accent",
			"good good-bg", "bad bad-bg", "warn warn-bg", "bad card", "bad bg",
		} {
			on, under, _ := strings.Cut(pair, " ")
			a, ok := colours[on]
			b, known := colours[under]
			if !ok || !known {
				t.Fatalf("%s: there are no colours %s", name, pair)
			}
			if contrast := (max(a, b) + 0.05) / (min(a, b) + 0.05); contrast < 4.5 {
				t.Errorf("%s: %s on %s has a contrast of %.2f, want 4.5", name, on, under, contrast)
			}
		}
	}
}

// luminance returns the luminance of a colour of three or six hex digits.
func luminance(t *testing.T, hex string) (sum float64) {
	t.Helper()
	if len(hex) == 3 {
		hex = strings.Join([]string{hex[:1], hex[:1], hex[1:2], hex[1:2], hex[2:], hex[2:]}, "")
	}
	for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
		v, err := strconv.ParseUint(hex[2*i:2*i+2], 16, 8)
		if err != nil {
			t.Fatal(err)
		}
		c := float64(v) / 255
		if c <= 0.04045 {
			c /= 12.92
		} else {
			c = math.Pow((c+0.055)/1.055, 2.4)
		}
		sum += weight * c
	}
	return sum
}
