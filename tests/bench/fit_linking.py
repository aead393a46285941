#!/usr/bin/env python3
"""Fits the weights of retrieval/schema/column_likelihood.cc: logistic regression, by Newton's method.

  linking_bench --suite=kaggledbqa --features=F && linking_bench --suite=train --features=F
  cat F.*.words > words && cat F.*.vectors > vectors
  fit_linking.py words vectors                   prints the weights for each file
  fit_linking.py --prior=text2sql/spider         prints how often columns are read at all

What it is fitted to: KaggleDBQA's questions and linking_questions.json; the prior to the gold
queries of Spider's training split. Databases that BIRD asks about, too, are left out. Databases
without values have nothing to say about the weight of a value in the question: VALUE stands for it,
the one that it has in a score that weighs SCORE_SLOPE (logistic regression on scores alone).
"""
import collections
import json
import math
import re
import sqlite3
import sys

SCORE, VALUE = 0, 1  # positions of these features
SCORE_SLOPE = 1.63
RIDGE = 3.0
ALSO_IN_BIRD = {'formula_1', 'soccer_1'}


def solve(matrix, vector):
    """Of a positive definite matrix, by Gaussian elimination."""
    n = len(vector)
    rows = [list(row) + [value] for row, value in zip(matrix, vector)]
    for i in range(n):
        pivot = max(range(i, n), key=lambda k: abs(rows[k][i]))
        rows[i], rows[pivot] = rows[pivot], rows[i]
        for k in range(i + 1, n):
            factor = rows[k][i] / rows[i][i]
            if factor:
                rows[k] = [a - factor * b for a, b in zip(rows[k], rows[i])]
    result = [0.0] * n
    for i in reversed(range(n)):
        rest = rows[i][n] - sum(rows[i][k] * result[k] for k in range(i + 1, n))
        result[i] = rest / rows[i][i]
    return result


def fit(features, targets, weights=None):
    """Weights of the bias and of each feature; targets are shares, ridge on all but the bias."""
    rows = [[1.0] + list(row) for row in features]
    size = len(rows[0])
    theta = [0.0] * size
    for _ in range(30):
        gradient = [0.0] + [RIDGE * value for value in theta[1:]]
        hessian = [[0.0] * size for _ in range(size)]
        for i in range(size):
            hessian[i][i] = RIDGE if i else 1e-6
        for index, (row, target) in enumerate(zip(rows, targets)):
            weight = weights[index] if weights else 1.0
            used = [i for i, value in enumerate(row) if value]
            odds = sum(theta[i] * row[i] for i in used)
            p = 1 / (1 + math.exp(-max(-30.0, min(30.0, odds))))
            error, curvature = weight * (p - target), weight * p * (1 - p)
            for i in used:
                gradient[i] += error * row[i]
                scaled = curvature * row[i]
                line = hessian[i]
                for k in used:
                    line[k] += scaled * row[k]
        step = solve(hessian, gradient)
        theta = [a - b for a, b in zip(theta, step)]
        if max(abs(value) for value in step) < 1e-6:
            break
    return theta


def fit_features(path):
    rows, targets, databases = [], [], []
    for line in open(path, encoding='utf-8'):
        database, _, target, *features = line.split('\t')
        if database in ALSO_IN_BIRD:
            continue
        databases.append(database)
        targets.append(float(target))
        rows.append([float(value) for value in features])
    for row in rows:
        row[VALUE] = 0.0
    theta = fit(rows, targets)
    theta[1 + VALUE] = SCORE_SLOPE - theta[1 + SCORE]
    print(path, len(rows), 'columns of', len(set(databases)), 'databases')
    print('  {%.3fF, {%s}}' % (theta[0], ', '.join('%.3fF' % value for value in theta[1:])))


def words_of(text):
    text = re.sub(r'([a-z])([A-Z])', r'\1 \2', text)
    return [word.lower() for word in re.findall(r'[A-Za-z]+', text)]


def fit_prior(folder):
    schemas = {s['db_id']: s for s in json.load(open(folder + '/tables.json', encoding='utf-8'))}
    held_out = {q['db_id'] for q in json.load(open(folder + '/dev.json', encoding='utf-8'))}
    queries = collections.defaultdict(list)
    for line in open(folder + '/train_gold.sql', encoding='utf-8'):
        if '\t' in line:
            query, name = line.rstrip('\n').rsplit('\t', 1)
            queries[name.strip()].append(query)
    found = []  # database, times its table is read, share of it, plain features, last word
    for name in sorted(queries):
        if name not in schemas or name in held_out or name in ALSO_IN_BIRD:
            continue
        schema = schemas[name]
        columns = collections.defaultdict(list)
        for i, (table, column) in enumerate(schema['column_names_original']):
            if table >= 0:
                columns[table].append((i, column))
        connection = sqlite3.connect(':memory:')
        for t, table in enumerate(schema['table_names_original']):
            names = ','.join('"%s"' % column for _, column in columns[t])
            try:
                connection.execute('CREATE TABLE "%s" (%s)' % (table, names))
            except sqlite3.Error:
                pass
        column_reads, table_reads = collections.Counter(), collections.Counter()
        for query in queries[name]:
            seen = set()

            def authorize(action, table, column, *_):
                if action == sqlite3.SQLITE_READ:
                    seen.update({(table.lower(), ''), (table.lower(), column.lower())})
                return sqlite3.SQLITE_OK
            connection.set_authorizer(authorize)
            try:
                connection.execute('EXPLAIN ' + query)
            except sqlite3.Error:
                continue
            finally:
                connection.set_authorizer(None)
            column_reads.update(pair for pair in seen if pair[1])
            table_reads.update(table for table, column in seen if not column)
        keys = {k for key in schema['primary_keys'] for k in (key if isinstance(key, list) else [key])}
        refers = {a for a, _ in schema['foreign_keys']}
        referred = {b for _, b in schema['foreign_keys']}
        for t, table in enumerate(schema['table_names_original']):
            reads = table_reads[table.lower()]
            if not reads:
                continue
            of_table = set(words_of(schema['table_names'][t]))
            for place, (i, column) in enumerate(columns[t]):
                words = words_of(schema['column_names'][i][1] or column)
                kind = schema['column_types'][i]
                plain = [i in keys, i in refers, i in referred, 1 / (1 + 0.5 * max(place, 1)),
                         kind == 'number', kind == 'time', bool(of_table & set(words)),
                         math.log(len(columns[t])), len(words) > 1]
                share = min(reads, column_reads[(table.lower(), column.lower())]) / reads
                found.append((name, reads, share, [float(x) for x in plain],
                              words[-1] if words else ''))
    of_word = collections.defaultdict(set)
    for name, _, _, _, word in found:
        of_word[word].add(name)
    vocabulary = sorted(word for word, names in of_word.items() if word and len(names) >= 10)
    rows = [plain + [float(word == known) for known in vocabulary] for _, _, _, plain, word in found]
    theta = fit(rows, [share for _, _, share, _, _ in found],
                [min(reads, 20) / 5 for _, reads, _, _, _ in found])
    print(len(rows), 'columns of', len({name for name, *_ in found}), 'databases')
    print('  {%s}' % ', '.join('%.2fF' % value for value in theta[:10]))
    print('  ' + ', '.join('{"%s", %.2fF}' % pair for pair in zip(vocabulary, theta[10:])))


for argument in sys.argv[1:]:
    if argument.startswith('--prior='):
        fit_prior(argument.removeprefix('--prior='))
    else:
        fit_features(argument)
