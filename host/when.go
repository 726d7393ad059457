package main

import (
	"errors"
	"fmt"
	"math"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// longest is the longest span that a question may name.
const longest = 100 * 365 * 24 * time.Hour

// parseSpan reads "90s", "5m", "1h30m", "7d" or "2w".
func parseSpan(text string) (time.Duration, error) {
	part := regexp.MustCompile(`^([0-9]{1,10})([smhdw])`)
	units := map[string]time.Duration{
		"s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour, "w": 7 * 24 * time.Hour,
	}
	var span time.Duration
	for rest := text; rest != "" || text == ""; {
		found := part.FindStringSubmatch(rest)
		if found == nil {
			return 0, fmt.Errorf("%.40q is no span such as 90s, 5m, 1h30m, 7d or 2w", text)
		}
		n, err := strconv.ParseInt(found[1], 10, 64)
		unit := units[found[2]]
		if err != nil || n > int64((longest-span)/unit) {
			return 0, fmt.Errorf("span %.40q is longer than 100 years", text)
		}
		span += time.Duration(n) * unit
		rest = rest[len(found[0]):]
	}
	return span, nil
}

// parseWhen reads a moment: a span before now, or a date and time in the zone of now, or RFC 3339. It gives UTC nanoseconds.
func parseWhen(text string, now time.Time) (int64, error) {
	if span, err := parseSpan(text); err == nil {
		return now.Add(-span).UnixNano(), nil
	}
	if text == "now" {
		return now.UnixNano(), nil
	}
	for _, layout := range []string{
		time.RFC3339, "2006-01-02 15:04:05", "2006-01-02T15:04:05", "2006-01-02 15:04", "2006-01-02T15:04", "2006-01-02",
	} {
		if t, err := time.ParseInLocation(layout, text, now.Location()); err == nil {
			return nanoseconds(t)
		}
	}
	if t, err := time.Parse("15:04", text); err == nil {
		return time.Date(now.Year(), now.Month(), now.Day(), t.Hour(), t.Minute(), 0, 0, now.Location()).UnixNano(), nil
	}
	return 0, fmt.Errorf("%.40q is no time such as 1h (ago), 17:00, 2026-11-21, \"2026-11-21 17:00\" or 2026-11-21T17:00:00Z", text)
}

// nanoseconds refuses what does not fit, and the beginning of 1970, which means "not given".
func nanoseconds(t time.Time) (int64, error) {
	if s := t.Unix(); s <= 0 || s > math.MaxInt64/int64(time.Second)-1 {
		return 0, errors.New("time lies before 1970 or after 2261")
	}
	return t.UnixNano(), nil
}

// zoneName is the IANA name of the local zone, for buckets of whole days; "" is UTC. link is /etc/localtime.
func zoneName(getenv func(string) string, link string) string {
	name := strings.TrimPrefix(getenv("TZ"), ":")
	if name == "" {
		target, err := os.Readlink(link)
		if err != nil {
			return ""
		}
		_, name, _ = strings.Cut(target, "zoneinfo/")
	}
	if _, err := time.LoadLocation(name); err != nil || name == "Local" {
		return ""
	}
	return name
}
