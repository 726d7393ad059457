package lab

import (
	"context"
	"database/sql"
	"slices"
	"strings"
	"time"
)

// readNotices gives the texts of all notices of a database.
func readNotices(ctx context.Context, path string) ([]string, error) {
	return readAll(ctx, path, "SELECT text FROM notices ORDER BY id", func(rows *sql.Rows) (text string, err error) {
		err = rows.Scan(&text)
		return text, err
	})
}

// CheckNotice waits until somebody has been told this.
func (c *Case) CheckNotice(words string) {
	c.Helper()
	for end := time.Now().Add(Deadline()); c.Daemon != nil; time.Sleep(200 * time.Millisecond) {
		notices, err := c.notices()
		switch {
		case err == nil && slices.ContainsFunc(notices, func(text string) bool { return strings.Contains(text, words) }):
			return
		case time.Now().After(end):
			c.Fatalf("no notice says %q after %v: %q, %v\n%s", words, Deadline(), notices, err, c.Daemon.LogTail())
		}
	}
}

// CheckNoNotice fails if somebody has been told this.
func (c *Case) CheckNoNotice(words string) {
	c.Helper()
	if c.Daemon == nil {
		return
	}
	notices, err := c.notices()
	if err != nil {
		c.Fatal(err)
	}
	for _, text := range notices {
		if strings.Contains(text, words) {
			c.Errorf("a notice says %q", text)
		}
	}
}

func (c *Case) notices() ([]string, error) {
	ctx, cancel := context.WithTimeout(c.Context(), Deadline())
	defer cancel()
	return readNotices(ctx, c.Daemon.Database())
}
