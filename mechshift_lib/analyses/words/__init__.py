"""Words of the chapters: a sentence over a table. They show numbers and decide nothing."""
