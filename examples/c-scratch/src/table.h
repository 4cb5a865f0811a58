/* Counts of words, by open addressing. */
#ifndef TABLE_H
#define TABLE_H

#include <stddef.h>

struct entry {
    char *word;
    unsigned long count;
};

struct table {
    struct entry *entries;
    size_t capacity; /* a power of two, or 0 */
    size_t used;
};

/* Adds one to a word's count. Gives 0, or -1 without memory. */
int table_add(struct table *table, const char *word, size_t length);

/* Moves the entries to the front, most frequent first; ties by the alphabet. */
void table_sort(struct table *table);

void table_free(struct table *table);

#endif
