"""Tables in, tables out: correlations of layer profiles, contrasts of arms, power, verdicts, the recommendation, and
the words for them.

surrogates, reliability   the two halves of a correlation: its p value over layers, its interval over items
correlations              `correlate`: every pair of profiles, every specification
variance                  crossed items and seeds: variance of a mean difference, Satterthwaite, McNemar, Holm
contrasts, power          `contrast`: arms against each other; `power`: the smallest difference a contrast can show
evidence, claims          `evidence`: what a study measured of each published claim; `judge`: the rules of
                          data/published/claims.csv
across                    `compare`: models side by side, and their mean where there are several
recommendation, findings  `recommend`: which layers to adapt; `findings`, `answer`: the results as sentences

numpy, scipy and pandas only. Import the submodules; this package imports nothing itself.
"""
