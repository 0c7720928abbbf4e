"""Tables in, tables out: correlations of layer profiles, contrasts of arms, power, verdicts, the recommendation, and
the words for them.

surrogates, reliability   the two halves of a correlation: its p value over layers, its interval over items
nulls                     unrelated profiles, what a correlation is held against
correlations              `correlate`: every pair of profiles
specifications            `curve`: every reading of the two quantities, and the joint test of them all
stability, domains        `selection`, `stability`, `domains`: how surely items pick layers, and whether domains agree
twins                     `twins`: the primary correlation where nothing was learned
regret                    `regrets`: what a cheap metric's choice of layers loses against layer gain
variance                  crossed items and seeds: variance of a mean difference, Satterthwaite, McNemar, Holm
contrasts, power          `contrast`: arms against each other; `power`: the smallest difference a contrast can show
evidence, claims          `evidence`: what a study measured of each published claim (lookups, measurements,
                          measurements_arms); `judge`: the rules of data/published/claims.csv
across, over_models       `compare`: models side by side, and their mean over families; evidence on claims about several
reanalysis                `reanalyse`: what the printed numbers alone can show
recommendation, findings  `recommend`: which layers to adapt (layer_choice where no arm was trained); `findings`,
                          `answer`: the results as sentences

numpy, scipy, pandas and yaml only. Import the submodules; this package imports nothing itself.
"""
