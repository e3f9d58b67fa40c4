"""What signatures can't tell: the kept-by-hand half of the catalogue. Data, no code.

A rule is one short text: `kind[?] [bounds or choices]`, `?` where null passes.

    int 1..100000      float 0..1      bool      text      choice mse|binary
    ints 1..10000      floats 0..1     texts     (lists; `ints?` etc. likewise)
    refuse why         a value other than null (and `false`) is refused with this reason
    ignore why         accepted and left out, with this warning
    scratch name       a path that Qlib writes: replaced by `name` in the run's own folder
    anything else      a shape that `training/workflow/shape.py` knows by that name
"""

UNPICKLED = "the file would be unpickled, which can run any code: leave it out or null"
SERVER_FILES = "it reads files that only the server's owner can provide"
OWN_CODE = "it would load code"
READS_OBJECT = "it wants a Python object, which no document can carry"

# What may stand in each slot. The generator reads these classes from the installed Qlib.
_MODEL = "qlib.contrib.model."
_TORCH = [
    "lstm.LSTM",
    "gru.GRU",
    "alstm.ALSTM",
    "tcn.TCN",
    "gats.GATs",
    "sfm.SFM",
    "transformer.TransformerModel",
    "localformer.LocalformerModel",
    "krnn.KRNN",
    "sandwich.Sandwich",
    "adarnn.ADARNN",
    "add.ADD",
    "igmtf.IGMTF",
    "tabnet.TabnetModel",
    "tcts.TCTS",
    "tra.TRAModel",
    "nn.DNNModelPytorch",
    "general_nn.GeneralPTNN",
    "lstm_ts.LSTM",
    "gru_ts.GRU",
    "alstm_ts.ALSTM",
    "tcn_ts.TCN",
    "gats_ts.GATs",
    "transformer_ts.TransformerModel",
    "localformer_ts.LocalformerModel",
]
_PROCESSORS = [
    "DropnaProcessor",
    "DropnaLabel",
    "DropCol",
    "FilterCol",
    "TanhProcess",
    "ProcessInf",
    "Fillna",
    "MinMaxNorm",
    "ZScoreNorm",
    "RobustZScoreNorm",
    "CSZScoreNorm",
    "CSRankNorm",
    "CSZFillna",
]

OFFERED: dict[str, list[str]] = {
    "model": [
        _MODEL + "gbdt.LGBModel",
        _MODEL + "highfreq_gdbt_model.HFLGBModel",
        _MODEL + "double_ensemble.DEnsembleModel",
        _MODEL + "xgboost.XGBModel",
        _MODEL + "catboost_model.CatBoostModel",
        _MODEL + "linear.LinearModel",
        *(_MODEL + "pytorch_" + name for name in _TORCH),
    ],
    "dataset": [
        "qlib.data.dataset.DatasetH",
        "qlib.data.dataset.TSDatasetH",
        "qlib.contrib.data.dataset.MTSDatasetH",
    ],
    "handler": [
        "qlib.contrib.data.handler.Alpha158",
        "qlib.contrib.data.handler.Alpha158vwap",
        "qlib.contrib.data.handler.Alpha360",
        "qlib.contrib.data.handler.Alpha360vwap",
        "qlib.data.dataset.handler.DataHandlerLP",
    ],
    "data_loader": [
        "qlib.data.dataset.loader.QlibDataLoader",
        "qlib.contrib.data.loader.Alpha158DL",
        "qlib.contrib.data.loader.Alpha360DL",
    ],
    "processor": ["qlib.data.dataset.processor." + name for name in _PROCESSORS],
    "inst_processor": ["qlib.data.dataset.processor.TimeRangeFlt"],
    "strategy": ["qlib.contrib.strategy.signal_strategy.TopkDropoutStrategy"],
    "executor": ["qlib.backtest.executor.SimulatorExecutor"],
    "record": [
        "qlib.workflow.record_temp.SignalRecord",
        "qlib.workflow.record_temp.SigAnaRecord",
        "qlib.workflow.record_temp.HFSignalRecord",
        "qlib.workflow.record_temp.PortAnaRecord",
        "qlib.workflow.record_temp.MultiPassPortAnaRecord",
    ],
    "filter": ["qlib.data.filter.NameDFilter", "qlib.data.filter.ExpressionDFilter"],
    "network": [
        _MODEL + "pytorch_nn.Net",
        _MODEL + "pytorch_gru_ts.GRUModel",
        _MODEL + "pytorch_lstm_ts.LSTMModel",
        _MODEL + "pytorch_alstm_ts.ALSTMModel",
        _MODEL + "pytorch_gru.GRUModel",
        _MODEL + "pytorch_lstm.LSTMModel",
        _MODEL + "pytorch_alstm.ALSTMModel",
    ],
    "exchange": ["qlib.backtest.exchange.Exchange"],
}

# Known to exist and not offered: the true reason, instead of "unknown class".
NOT_OFFERED: dict[str, str] = {
    "HIST": (
        "HIST is not offered: it downloads a file while it trains, unpickles it, "
        "and runs on a GPU only"
    ),
    "TFTModel": "TFTModel is code beside the example (TensorFlow 1), not a part of Qlib",
    "StaticDataLoader": f"StaticDataLoader is not offered: {UNPICKLED}",
    "DataLoaderDH": "DataLoaderDH is not offered: its handlers can be named directly",
    "NestedDataLoader": "NestedDataLoader is not offered: name all columns in one QlibDataLoader",
    "EnhancedIndexingStrategy": f"EnhancedIndexingStrategy is not offered: {SERVER_FILES}",
    "FileOrderStrategy": f"FileOrderStrategy is not offered: {SERVER_FILES}",
    "SoftTopkStrategy": "SoftTopkStrategy can't be constructed in Qlib 0.9.7 (a fault of Qlib)",
    "WeightStrategyBase": "WeightStrategyBase is only a base to derive from",
    "NestedExecutor": "NestedExecutor is not offered: it wants data finer than a day",
    "TWAPStrategy": "TWAPStrategy is not offered: it wants data finer than a day",
    "SBBStrategyEMA": "SBBStrategyEMA is not offered: it wants data finer than a day",
    "HashStockFormat": "HashStockFormat is not offered: its result is no table of numbers",
    "ConfigSectionProcessor": "ConfigSectionProcessor is not offered: Qlib marks it as outdated",
    "Resample1minProcessor": (
        "Resample1minProcessor is a Python file beside the example, not a part of Qlib"
    ),
}

# Feature and PFeature are what `$x` and `$$x` become; the stores hold no point-in-time data.
OPERATORS_LEFT_OUT = frozenset({"Feature", "PFeature", "P", "PRef"})
OPERATOR_ARGUMENTS: dict[str, dict[str, str]] = {
    "Ref": {"N": "shift"},
    "Delta": {"N": "shift"},
    "EMA": {"N": "decay"},
}

_SEED = "int? 0..4294967295"
_POSITIVE = "int 1..100000"
# By name, for every class that has such a parameter; a class may differ below.
BY_NAME: dict[str, str] = {
    # networks
    "d_feat": "int 1..5000",
    "fea_dim": "int 1..5000",
    "input_dim": "int 1..20000",
    "input_size": "int? 1..5000",
    "hidden_size": "int 1..4096",
    "num_layers": "int 1..32",
    "d_model": "int 2..4096",
    "nhead": "int 1..64",
    "n_chans": "int 1..2048",
    "kernel_size": "int 1..64",
    "cnn_dim": "int 1..2048",
    "cnn_dim_1": "int 1..2048",
    "cnn_dim_2": "int 1..2048",
    "cnn_kernel_size": "int 1..64",
    "rnn_dim": "int 1..2048",
    "rnn_dim_1": "int 1..2048",
    "rnn_dim_2": "int 1..2048",
    "rnn_dups": "int 1..32",
    "rnn_layers": "int 1..32",
    "output_dim": "int 1..4096",
    "out_dim": "int 1..4096",
    "final_out_dim": "int 1..1",
    "freq_dim": "int 1..1024",
    "n_d": "int 1..2048",
    "n_a": "int 1..2048",
    "n_shared": "int 1..32",
    "n_ind": "int 1..32",
    "n_steps": "int 1..64",
    "relax": "float 1..10",
    "vbs": "int 2..100000",
    "ps": "float 0..1",
    "dropout": "float 0..1",
    "dec_dropout": "float 0..1",
    "dropout_W": "float 0..1",
    "dropout_U": "float 0..1",
    "base_model": "choice LSTM|GRU",
    "len_seq": "int 1..2000",
    "len_win": "int 0..2000",
    "n_splits": "int 1..64",
    "dw": "float 0..1000",
    "pre_epoch": "int 0..10000",
    "gamma": "float 0..1000",
    "gamma_clip": "float 0..1000",
    "mu": "float 0..1000",
    "reg": "float 0..1000",
    # how they learn
    "n_epochs": "int 1..10000",
    "pretrain_n_epochs": "int 1..10000",
    "max_steps": "int 1..1000000",
    "eval_steps": _POSITIVE,
    "early_stop": "int 1..100000",
    "early_stop_rounds": _POSITIVE,
    "batch_size": "int 1..1000000",
    "lr": "float >0..10",
    "fore_lr": "float >0..10",
    "weight_lr": "float >0..10",
    "weight_decay": "float 0..100",
    "steps": "int 1..1000",
    "optimizer": "choice adam|gd",
    "fore_optimizer": "choice adam|gd",
    "weight_optimizer": "choice adam|gd",
    "loss": "choice mse",
    "metric": "choice |loss",
    "pretrain_loss": "choice custom",
    "pretrain": "bool",
    "mode": "choice hard|soft",
    "target_label": "int 0..100",
    "lowest_valid_performance": "float 0..1000",
    "seed": _SEED,
    "GPU": "int -1..63",
    "n_jobs": "workers 0..1024",
    "data_parall": "bool",
    "scheduler": "choice? default",
    "init_model": f"refuse {READS_OBJECT}",
    "eval_train_metric": "bool",
    "valid_key": "choice learn|infer",
    "pt_model_uri": "network",
    "pt_model_kwargs": "network_kwargs",
    "model_path": f"refuse {UNPICKLED}",
    "init_state": f"refuse {UNPICKLED}",
    "pretrain_file": f"refuse {UNPICKLED}",
    "stock2concept": f"refuse {UNPICKLED}",
    "stock_index": f"refuse {UNPICKLED}",
    "logdir": "scratch tra_log",
    # TRA
    "model_config": "tra_network",
    "tra_config": "tra_router",
    "model_type": "choice RNN|Transformer",
    "update_freq": "int 1..1000",
    "max_steps_per_epoch": "int? 1..1000000",
    "lamb": "float 0..1000",
    "rho": "float 0..1",
    "alpha": "float 0..1000000",
    "eval_train": "bool",
    "eval_test": "bool",
    "reset_router": "bool",
    "freeze_model": "bool",
    "freeze_predictors": "bool",
    "transport_method": "choice none|router|oracle",
    "memory_mode": "choice sample|daily",
    # boosters
    "num_boost_round": "int 1..100000",
    "early_stopping_rounds": "int 1..100000",
    "num_models": "int 1..100",
    "epochs": "int 1..100000",
    "enable_sr": "bool",
    "enable_fs": "bool",
    "alpha1": "float 0..1000",
    "alpha2": "float 0..1000",
    "bins_sr": "int 1..1000",
    "bins_fs": "int 1..1000",
    "decay": "float? 0..1",
    "sample_ratios": "floats? >0..1",
    "sub_weights": "floats? 0..1000000",
    # linear
    "estimator": "choice ols|nnls|ridge|lasso",
    "fit_intercept": "bool",
    "include_valid": "bool",
    # datasets
    "handler": "handler",
    "segments": "segments",
    "fetch_kwargs": "empty",
    "step_len": "int 1..2000",
    "flt_col": "refuse none of the offered handlers makes a filter column",
    "seq_len": "int 1..2000",
    "horizon": "int 0..2000",
    "num_states": "int 0..1000",
    "n_samples": "int? 1..1000000",
    "shuffle": "bool",
    "drop_last": "bool",
    # handlers and loaders
    "instruments": "instruments?",
    "start_time": "date?",
    "end_time": "date?",
    "fit_start_time": "date?",
    "fit_end_time": "date?",
    "freq": "freq",
    "infer_processors": "processors",
    "learn_processors": "processors",
    "shared_processors": "processors",
    "inst_processors": "inst_processors?",
    "process_type": "choice append|independent",
    "filter_pipe": "filters?",
    "label": "fields",
    "drop_raw": "bool",
    "fetch_orig": "bool",
    "init_data": "refuse the data is always loaded",
    "data_loader": "data_loader",
    "config": "loader_config",
    "swap_level": "refuse Qlib's handlers need the levels swapped",
    # processors
    "fields_group": "group?",
    "col_list": "texts",
    "fill_value": "float -1e18..1e18",
    "clip_outlier": "bool",
    "method": "choice zscore|robust",
    # records
    "model": "placeholder <MODEL>",
    "dataset": "placeholder <DATASET>",
    "ana_long_short": "bool",
    "ann_scaler": "float >0..100000",
    "label_col": "int 0..100",
    "skip_existing": "bool",
    "risk_analysis_freq": "report_freq?",
    "indicator_analysis_freq": "report_freq?",
    "indicator_analysis_method": "choice? mean|amount_weighted|value_weighted",
    "pass_num": "int 1..100",
    "shuffle_init_score": "bool",
    # strategies and executors
    "signal": "placeholder <PRED>",
    "topk": "int 1..10000",
    "n_drop": "int 0..10000",
    "method_sell": "choice random|bottom",
    "method_buy": "choice random|top",
    "hold_thresh": "int 0..10000",
    "only_tradable": "bool",
    "forbid_all_trade_at_limit": "bool",
    "risk_degree": "float 0..1",
    "trade_exchange": f"refuse {READS_OBJECT}",
    "level_infra": f"refuse {READS_OBJECT}",
    "common_infra": f"refuse {READS_OBJECT}",
    "outer_trade_decision": f"refuse {READS_OBJECT}",
    "time_per_step": "choice day|1day",
    "generate_portfolio_metrics": "bool",
    "verbose": "bool",
    "track_data": "bool",
    "trade_type": "choice serial|parallel",
    "indicator_config": "empty",
    "settle_type": "choice None|cash",
    # the exchange
    "codes": "instruments?",
    "deal_price": "deal_price?",
    "subscribe_fields": "expressions",
    "limit_threshold": "limit?",
    "volume_threshold": "volume_limit?",
    "open_cost": "float 0..1",
    "close_cost": "float 0..1",
    "min_cost": "float 0..1e12",
    "impact_cost": "float 0..100",
    "trade_unit": "int? 1..1000000",
    "extra_quote": f"refuse {READS_OBJECT}",
    "quote_cls": f"refuse {OWN_CODE}",
    # networks by name (GeneralPTNN, DNNModelPytorch)
    "layers": "ints 1..16384",
    "act": "choice LeakyReLU|SiLU",
    # filters, as Qlib reads them from a config
    "name_rule_re": "name_pattern",
    "rule_expression": "expression",
    "fstart_time": "date?",
    "fend_time": "date?",
    "keep": "bool",
    "rnn_type": "choice GRU|LSTM|RNN",
}

# Class (module:class where a name stands for two) → parameter → rule.
BY_CLASS: dict[str, dict[str, str]] = {
    "LGBModel": {"loss": "choice mse|binary"},
    "HFLGBModel": {"loss": "choice mse|binary"},
    "DEnsembleModel": {
        "loss": "choice mse",
        "base_model": "choice gbm",
        "early_stopping_rounds": "int? 1..100000",
    },
    "CatBoostModel": {"loss": "choice RMSE|Logloss"},
    "ADARNN": {
        "loss_type": "choice mmd_lin|coral|cosine|cos|kl|js|mine|adv|mmd_rbf|pairwise",
        "metric": "choice ic|mse|loss|",
    },
    "ADD": {"metric": "choice ic|mse|loss"},
    "IGMTF": {"metric": "choice |ic|loss"},
    "SFM": {"metric": "choice |loss"},
    "DNNModelPytorch": {"loss": "choice mse|binary", "GPU": "gpu"},
    "GeneralPTNN": {"metric": "choice |loss|mse", "GPU": "gpu"},
    "MTSDatasetH": {"batch_size": "int -1..1000000"},
    "TimeRangeFlt": {"freq": "choice day"},
    "SimulatorExecutor": {
        "start_time": "refuse the backtest gives it",
        "end_time": "refuse the backtest gives it",
    },
    "Exchange": {"freq": "choice day"},
    "PortAnaRecord": {"config": "portfolio"},
    "MultiPassPortAnaRecord": {"config": "portfolio"},
    "Alpha158": {"data_loader": "refuse Alpha158 brings its own loader"},
    "Alpha158vwap": {"data_loader": "refuse Alpha158vwap brings its own loader"},
    "Alpha360": {"data_loader": "refuse Alpha360 brings its own loader"},
    "Alpha360vwap": {"data_loader": "refuse Alpha360vwap brings its own loader"},
}

# Parameters that `**kwargs` takes though no signature names them; some are read by nothing in
# Qlib 0.9.7 and yet stand in its own examples.
EXTRA: dict[str, dict[str, str]] = {
    "Alpha158": {"label": "fields"},
    "Alpha158vwap": {"label": "fields"},
    "Alpha360": {"label": "fields"},
    "Alpha360vwap": {"label": "fields"},
    "ALSTM": {"rnn_type": "ignore Qlib's ALSTM does not read it"},
    "TCTS": {"metric": "ignore Qlib's TCTS does not read it"},
    "Exchange": {"trade_unit": "int? 1..1000000"},
}

# Optional by signature, and yet nothing works without.
NEEDED = {
    "DataHandlerLP": ("data_loader",),
    "QlibDataLoader": ("config",),
    "TopkDropoutStrategy": ("signal",),
}

_WRITES = "it writes a file on the server"
_READS = "it reads a file on the server"
_NETWORK = "it opens network connections"
_COMMON_BOOST = {
    "verbosity": "int -1..3",
    "max_depth": "int -1..64",
    "learning_rate": "float >0..10",
}

LIGHTGBM: dict[str, str] = {
    **_COMMON_BOOST,
    "objective": (
        "choice regression|regression_l1|huber|fair|poisson|quantile|mape|gamma|tweedie|binary|"
        "cross_entropy|mse|mae|l1|l2|rmse|mean_squared_error|mean_absolute_error|l2_root"
    ),
    "boosting": "choice gbdt|rf|dart|gbrt|random_forest",
    "data_sample_strategy": "choice bagging|goss",
    "tree_learner": "choice serial",
    "num_leaves": "int 2..131072",
    "num_threads": "threads 0..1024",
    "device_type": "choice cpu",
    "seed": _SEED,
    "deterministic": "bool",
    "force_col_wise": "bool",
    "force_row_wise": "bool",
    "histogram_pool_size": "float -1..1000000",
    "min_data_in_leaf": "int 0..100000000",
    "min_sum_hessian_in_leaf": "float 0..1e12",
    "bagging_fraction": "float >0..1",
    "pos_bagging_fraction": "float >0..1",
    "neg_bagging_fraction": "float >0..1",
    "bagging_freq": "int 0..100000",
    "bagging_seed": "int 0..2147483647",
    "bagging_by_query": "bool",
    "feature_fraction": "float >0..1",
    "feature_fraction_bynode": "float >0..1",
    "feature_fraction_seed": "int 0..2147483647",
    "extra_trees": "bool",
    "extra_seed": "int 0..2147483647",
    "early_stopping_round": "int 0..100000",
    "early_stopping_min_delta": "float 0..1e12",
    "first_metric_only": "bool",
    "max_delta_step": "float -1..1e12",
    "lambda_l1": "float 0..1e12",
    "lambda_l2": "float 0..1e12",
    "linear_lambda": "float 0..1e12",
    "min_gain_to_split": "float 0..1e12",
    "drop_rate": "float 0..1",
    "max_drop": "int -1..100000",
    "skip_drop": "float 0..1",
    "xgboost_dart_mode": "bool",
    "uniform_drop": "bool",
    "drop_seed": "int 0..2147483647",
    "top_rate": "float 0..1",
    "other_rate": "float 0..1",
    "path_smooth": "float 0..1e12",
    "linear_tree": "bool",
    "max_bin": "int 2..65535",
    "min_data_in_bin": "int 1..100000000",
    "bin_construct_sample_cnt": "int 1..100000000",
    "data_random_seed": "int 0..2147483647",
    "is_enable_sparse": "bool",
    "enable_bundle": "bool",
    "use_missing": "bool",
    "zero_as_missing": "bool",
    "feature_pre_filter": "bool",
    "boost_from_average": "bool",
    "objective_seed": "int 0..2147483647",
    "is_unbalance": "bool",
    "scale_pos_weight": "float >0..1e12",
    "sigmoid": "float >0..1e6",
    "reg_sqrt": "bool",
    "alpha": "float >0..1e6",
    "fair_c": "float >0..1e6",
    "poisson_max_delta_step": "float >0..1e6",
    "tweedie_variance_power": "float 1..2",
    "metric": "metrics",
    "metric_freq": "int 1..100000",
    "is_provide_training_metric": "bool",
    "num_iterations": "refuse write num_boost_round, which Qlib's model reads",
    "monotone_constraints_method": "choice basic|intermediate|advanced",
    "monotone_penalty": "float 0..1e6",
    "min_data_per_group": "int 1..100000000",
    "refit_decay_rate": "float 0..1",
    "cegb_tradeoff": "float 0..1e12",
    "cegb_penalty_split": "float 0..1e12",
    "quant_train_renew_leaf": "bool",
    "use_quantized_grad": "bool",
    "num_grad_quant_bins": "int 2..1024",
    "stochastic_rounding": "bool",
    "output_model": f"refuse {_WRITES}",
    "output_result": f"refuse {_WRITES}",
    "snapshot_freq": f"refuse {_WRITES}",
    "saved_feature_importance_type": f"refuse {_WRITES}",
    "convert_model": f"refuse {_WRITES}",
    "save_binary": f"refuse {_WRITES}",
    "input_model": f"refuse {_READS}",
    "data": f"refuse {_READS}",
    "valid": f"refuse {_READS}",
    "config": f"refuse {_READS}",
    "forcedsplits_filename": f"refuse {_READS}",
    "forcedbins_filename": f"refuse {_READS}",
    "parser_config_file": f"refuse {_READS}",
    "machines": f"refuse {_NETWORK}",
    "machine_list_filename": f"refuse {_NETWORK}",
    "num_machines": f"refuse {_NETWORK}",
    "local_listen_port": f"refuse {_NETWORK}",
    "pre_partition": f"refuse {_NETWORK}",
}

XGBOOST: dict[str, str] = {
    **_COMMON_BOOST,
    "objective": (
        "choice reg:squarederror|reg:squaredlogerror|reg:pseudohubererror|reg:absoluteerror|"
        "reg:logistic|binary:logistic|binary:logitraw|count:poisson|reg:gamma|reg:tweedie"
    ),
    "eval_metric": "metrics",
    "booster": "choice gbtree|gblinear|dart",
    "tree_method": "choice auto|exact|approx|hist",
    "device": "choice cpu",
    "eta": "float >0..10",
    "gamma": "float 0..1e12",
    "min_split_loss": "float 0..1e12",
    "min_child_weight": "float 0..1e12",
    "max_delta_step": "float 0..1e12",
    "subsample": "float >0..1",
    "sampling_method": "choice uniform|gradient_based",
    "colsample_bytree": "float >0..1",
    "colsample_bylevel": "float >0..1",
    "colsample_bynode": "float >0..1",
    "lambda": "float 0..1e12",
    "reg_lambda": "float 0..1e12",
    "alpha": "float 0..1e12",
    "reg_alpha": "float 0..1e12",
    "scale_pos_weight": "float 0..1e12",
    "grow_policy": "choice depthwise|lossguide",
    "max_leaves": "int 0..131072",
    "max_bin": "int 2..65535",
    "num_parallel_tree": "int 1..1000",
    "base_score": "float? -1e12..1e12",
    "seed": "int 0..2147483647",
    "random_state": "int 0..2147483647",
    "seed_per_iteration": "bool",
    "nthread": "threads 0..1024",
    "n_jobs": "threads 0..1024",
    "max_depth": "int 0..64",
    "verbosity": "int 0..3",
    "rate_drop": "float 0..1",
    "skip_drop": "float 0..1",
    "one_drop": "bool",
    "sample_type": "choice uniform|weighted",
    "normalize_type": "choice tree|forest",
    "n_estimators": (
        "ignore Qlib trains XGBoost for 1000 rounds with early stopping and never reads it: "
        "set platform.rounds"
    ),
    "process_type": "refuse it updates an existing model",
    "updater": "refuse XGBoost chooses it by tree_method",
}

CATBOOST: dict[str, str] = {
    "learning_rate": "float >0..10",
    "depth": "int 1..16",
    "max_depth": "int 1..16",
    "l2_leaf_reg": "float 0..1e12",
    "reg_lambda": "float 0..1e12",
    "subsample": "float >0..1",
    "rsm": "float >0..1",
    "colsample_bylevel": "float >0..1",
    "num_leaves": "int 2..131072",
    "max_leaves": "int 2..131072",
    "min_data_in_leaf": "int 1..100000000",
    "min_child_samples": "int 1..100000000",
    "thread_count": "threads 1..1024",
    "grow_policy": "choice SymmetricTree|Depthwise|Lossguide",
    "bootstrap_type": "choice Bayesian|Bernoulli|MVS|Poisson|No",
    "bagging_temperature": "float 0..1e6",
    "sampling_frequency": "choice PerTree|PerTreeLevel",
    "random_strength": "float 0..1e6",
    "random_seed": "int 0..2147483647",
    "random_state": "int 0..2147483647",
    "border_count": "int 1..65535",
    "max_bin": "int 1..65535",
    "feature_border_type": (
        "choice Median|Uniform|UniformAndQuantiles|MaxLogSum|MinEntropy|GreedyLogSum"
    ),
    "score_function": "choice Cosine|L2|NewtonCosine|NewtonL2",
    "leaf_estimation_method": "choice Newton|Gradient|Exact|Simple",
    "leaf_estimation_iterations": "int 1..1000",
    "boosting_type": "choice Ordered|Plain",
    "boost_from_average": "bool",
    "langevin": "bool",
    "diffusion_temperature": "float 0..1e9",
    "model_shrink_rate": "float 0..1",
    "has_time": "bool",
    "nan_mode": "choice Min|Max|Forbidden",
    "eval_metric": "metrics",
    "metric_period": "int 1..100000",
    "iterations": "ignore Qlib trains CatBoost for 1000 rounds: set platform.rounds",
    "n_estimators": "ignore Qlib trains CatBoost for 1000 rounds: set platform.rounds",
    "num_boost_round": "ignore Qlib trains CatBoost for 1000 rounds: set platform.rounds",
    "num_trees": "ignore Qlib trains CatBoost for 1000 rounds: set platform.rounds",
    "train_dir": "scratch catboost_info",
    "task_type": "ignore Qlib chooses it by the machine",
    "devices": "refuse the machine's devices are not the sender's to choose",
    "snapshot_file": f"refuse {_WRITES}",
    "save_snapshot": f"refuse {_WRITES}",
    "allow_writing_files": "ignore files go to the run's own folder",
}

# Class → (table of library parameters, its parameter of threads, seeds with the library's own
# defaults). Setting LightGBM's `seed` would change the six others, so it is left alone.
LIGHTGBM_SEEDS = {
    "data_random_seed": 1,
    "feature_fraction_seed": 2,
    "bagging_seed": 3,
    "drop_seed": 4,
    "objective_seed": 5,
    "extra_seed": 6,
}
BOOSTERS: dict[str, str] = {
    "LGBModel": "lightgbm",
    "HFLGBModel": "lightgbm",
    "DEnsembleModel": "lightgbm",
    "XGBModel": "xgboost",
    "CatBoostModel": "catboost",
}
# Names for one and the same thing, beside LightGBM's, which the library tells itself.
ALIASES = {
    "xgboost": {
        "learning_rate": "eta",
        "random_state": "seed",
        "n_jobs": "nthread",
        "reg_lambda": "lambda",
        "reg_alpha": "alpha",
        "min_split_loss": "gamma",
    },
    "catboost": {
        "random_state": "random_seed",
        "max_depth": "depth",
        "reg_lambda": "l2_leaf_reg",
        "colsample_bylevel": "rsm",
        "num_leaves": "max_leaves",
        "max_bin": "border_count",
        "min_child_samples": "min_data_in_leaf",
    },
}
# Class → a parameter and its value that work on a GPU only.
GPU_ONLY = {"CatBoostModel": ("bootstrap_type", "Poisson")}
ROUNDS_BY_PLATFORM = frozenset({"XGBModel", "CatBoostModel", "HFLGBModel"})

TRA_NETWORK = {
    "input_size": "int 1..5000",
    "hidden_size": "int 1..4096",
    "num_layers": "int 1..32",
    "rnn_arch": "choice GRU|LSTM",
    "use_attn": "bool",
    "dropout": "float 0..1",
    "num_heads": "int 1..64",
}
TRA_ROUTER = {
    "num_states": "int 1..1000",
    "hidden_size": "int 1..4096",
    "rnn_arch": "choice GRU|LSTM",
    "num_layers": "int 1..32",
    "dropout": "float 0..1",
    "tau": "float >0..1000",
    "src_info": "choice LR_TPE|LR|TPE",
    "input_size": "int 1..5000",
}

METRICS = frozenset(
    [
        "l1",
        "l2",
        "rmse",
        "mae",
        "mse",
        "mape",
        "huber",
        "fair",
        "poisson",
        "quantile",
        "gamma",
        "gamma_deviance",
        "tweedie",
        "auc",
        "average_precision",
        "binary_logloss",
        "binary_error",
        "cross_entropy",
        "None",
        "none",
        "null",
        "custom",
        "mean_squared_error",
        "mean_absolute_error",
        "regression",
        "regression_l1",
        "regression_l2",
        "binary",
        "rmsle",
        "mphe",
        "logloss",
        "error",
        "aucpr",
        "map",
        "ndcg",
        "poisson-nloglik",
        "gamma-nloglik",
        "gamma-deviance",
        "RMSE",
        "MAE",
        "MAPE",
        "R2",
        "Logloss",
        "CrossEntropy",
        "AUC",
        "Quantile",
        "Poisson",
        "MSLE",
        "SMAPE",
        "MedianAbsoluteError",
        "Accuracy",
        "F1",
        "Precision",
        "Recall",
    ]
)

# The label of Qlib's own handlers, `Ref($close, -2)/Ref($close, -1) - 1`, looks two days ahead.
OWN_LABEL_HORIZON = 2

# What the handlers with features of their own read from the store.
_BARS = ("open", "high", "low", "close", "volume", "vwap")
OWN_FIELDS = {
    "Alpha158": _BARS,
    "Alpha158vwap": _BARS,
    "Alpha360": _BARS,
    "Alpha360vwap": _BARS,
}
# The market that they take where none is named.
OWN_MARKET = "csi500"

# Qlib copies a fresh network of this size into the model, with a pretrained file or without.
FIXED_SIZE = frozenset(_MODEL + "pytorch_" + name for name in ("gats", "igmtf", "add"))

# Steps and columns must be as many, or only the prediction fails, after the whole fit.
SQUARE = frozenset({_MODEL + "pytorch_tcn_ts"})

# Models by the kind of dataset that they read.
NEEDS_SERIES = frozenset(
    _MODEL + "pytorch_" + name
    for name in [
        "lstm_ts",
        "gru_ts",
        "alstm_ts",
        "tcn_ts",
        "gats_ts",
        "transformer_ts",
        "localformer_ts",
    ]
)
# Class → how many names a day must have to count when the model measures itself (Qlib's `ICLoss`).
LEAST_NAMES = {"DNNModelPytorch": 50}
NEEDS_MEMORY = frozenset({_MODEL + "pytorch_tra"})
EITHER_DATASET = frozenset({_MODEL + "pytorch_general_nn"})
# Models that need a `valid` segment; LightGBM and Linear do without.
WITHOUT_VALID = frozenset({"LGBModel", "LinearModel", "DNNModelPytorch"})
