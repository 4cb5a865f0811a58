#include "table.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static uint64_t hash(const char *word, size_t length)
{
    uint64_t value = 1469598103934665603u;
    for (size_t i = 0; i < length; i++)
        value = (value ^ (unsigned char)word[i]) * 1099511628211u;
    return value;
}

static struct entry *find(struct entry *entries, size_t capacity, const char *word, size_t length)
{
    size_t at = hash(word, length) & (capacity - 1);
    while (entries[at].word) {
        if (strncmp(entries[at].word, word, length) == 0 && entries[at].word[length] == '\0')
            break;
        at = (at + 1) & (capacity - 1);
    }
    return &entries[at];
}

static int grow(struct table *table)
{
    size_t capacity = table->capacity ? table->capacity * 2 : 64;
    struct entry *entries = calloc(capacity, sizeof *entries);
    if (!entries)
        return -1;
    for (size_t i = 0; i < table->capacity; i++) {
        struct entry *old = &table->entries[i];
        if (old->word)
            *find(entries, capacity, old->word, strlen(old->word)) = *old;
    }
    free(table->entries);
    table->entries = entries;
    table->capacity = capacity;
    return 0;
}

int table_add(struct table *table, const char *word, size_t length)
{
    if (table->used * 2 >= table->capacity && grow(table) != 0)
        return -1;
    struct entry *entry = find(table->entries, table->capacity, word, length);
    if (!entry->word) {
        entry->word = malloc(length + 1);
        if (!entry->word)
            return -1;
        memcpy(entry->word, word, length);
        entry->word[length] = '\0';
        table->used++;
    }
    entry->count++;
    return 0;
}

static int compare(const void *left, const void *right)
{
    const struct entry *a = left, *b = right;
    if (a->count != b->count)
        return a->count < b->count ? 1 : -1;
    return strcmp(a->word, b->word);
}

void table_sort(struct table *table)
{
    size_t used = 0;
    for (size_t i = 0; i < table->capacity; i++)
        if (table->entries[i].word)
            table->entries[used++] = table->entries[i];
    for (size_t i = used; i < table->capacity; i++)
        table->entries[i].word = NULL;
    if (used > 0)
        qsort(table->entries, used, sizeof *table->entries, compare);
}

void table_free(struct table *table)
{
    for (size_t i = 0; i < table->capacity; i++)
        free(table->entries[i].word);
    free(table->entries);
    *table = (struct table){0};
}
